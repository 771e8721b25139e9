"""Weighted AUROC against scikit-learn on the resampled texts themselves."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from neva_tl.evaluation.judge_quality.ranking import auroc_draws
from neva_tl.evaluation.measures.cluster_sums import bootstrap_weights


def test_draws_equal_scikit_learns_auroc_of_resampled_texts() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 3)) < 0.4).astype(float)
    scores = np.round(labels * 0.3 + rng.normal(0, 0.5, labels.shape), 1)  # with ties
    labels[:20, 1], labels[:, 2] = np.nan, 1.0
    clusters = np.array([f"c{i // 2}" for i in range(60)])
    draws = auroc_draws(scores, labels, clusters, n_boot=30, seed=4)
    assert draws.shape == (30, 3) and np.isnan(draws[:, 2]).all()
    for k in range(2):
        use = ~np.isnan(labels[:, k])
        names = np.unique(clusters[use])
        (weights,) = bootstrap_weights((tuple(names.tolist()),), ("texts",), n_boot=30, seed=4, shared=True)
        for b in range(30):
            rows = np.concatenate(
                [
                    np.repeat(np.flatnonzero(use & (clusters == c)), int(w))
                    for c, w in zip(names, weights[b], strict=True)
                ]
            )
            assert np.isclose(draws[b, k], roc_auc_score(labels[rows, k], scores[rows, k]))


def test_a_perfect_judge_has_no_spread_and_a_constant_one_is_at_a_half() -> None:
    labels = np.tile([1.0, 0.0], 20)[:, None].repeat(2, axis=1)
    scores = np.stack([labels[:, 0], np.full(40, 0.3)], axis=1)
    draws = auroc_draws(scores, labels, np.arange(40).astype(str), n_boot=20, seed=0)
    assert (draws[:, 0] == 1).all() and (draws[:, 1] == 0.5).all()
