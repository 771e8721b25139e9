"""Bootstrap draws of the AUROC of a judge's scores, clusters of texts resampled."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from neva_tl.evaluation.measures.cluster_sums import bootstrap_weights


def auroc_draws(
    scores: Float[np.ndarray, "n c"],
    labels: Float[np.ndarray, "n c"],
    clusters: np.ndarray,
    *,
    n_boot: int,
    seed: int,
) -> Float[np.ndarray, "b c"]:
    """Return the AUROC of each column in every draw; a tie counts half.

    Clusters are drawn among those with a label of the column. NaN where a draw lacks one of the two labels.

    Args:
        scores: Scores of n texts; NaN is left out.
        labels: 1, 0 or NaN (unknown) for each score.
        clusters: Cluster of each text.
        n_boot: Number of draws.
        seed: Seed of the draws.
    """
    out = np.full((n_boot, scores.shape[1]), np.nan)
    for k in range(scores.shape[1]):
        use = ~(np.isnan(scores[:, k]) | np.isnan(labels[:, k]))
        if len(set(labels[use, k].tolist())) < 2:
            continue
        distinct, member = np.unique(np.asarray(clusters, dtype=str)[use], return_inverse=True)
        names = (tuple(str(name) for name in distinct),)
        (drawn,) = bootstrap_weights(names, ("texts",), n_boot=n_boot, seed=seed, shared=True)
        order = np.argsort(scores[use, k], kind="stable")
        weights = drawn[:, member.reshape(-1)[order]]
        x, y = scores[use, k][order], labels[use, k][order]
        starts = np.flatnonzero(np.r_[True, np.diff(x) > 0])
        yes = np.add.reduceat(weights * (y == 1), starts, axis=1)
        no = np.add.reduceat(weights * (y == 0), starts, axis=1)
        below = np.cumsum(no, axis=1) - no
        total = yes.sum(axis=1) * no.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            out[:, k] = np.where(total > 0, (yes * (below + no / 2)).sum(axis=1) / total, np.nan)
    return out
