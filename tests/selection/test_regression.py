"""Selector regression: the fit equals scikit-learn's, signs are partial effects, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge

from helpers.planted_neurons import LAYERS, NEGATIVE, READERS, WRITERS, make_stats
from helpers.selected import places
from neva_tl.core.errors import InputError
from neva_tl.editing import Shift
from neva_tl.selection import select
from neva_tl.selection.regression import fit_ridge

pytestmark = pytest.mark.core


def test_the_fit_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    h = (rng.normal(size=(40, 90)) * rng.uniform(0.5, 4, 90) + 3).astype(np.float32)
    clusters = np.repeat(np.arange(10), 4).astype(str)
    y = h[:, 0] - 0.5 * h[:, 1] + rng.normal(size=40)
    x = (h - h.mean(0)) / h.std(0)
    unit = float((x * x).sum() / 40)
    errors = {}
    for penalty in (0.01, 0.3, 10.0):
        error = 0.0
        for name in np.unique(clusters):
            out = clusters == name
            error += float(
                ((SklearnRidge(alpha=penalty * unit).fit(x[~out], y[~out]).predict(x[out]) - y[out]) ** 2).sum()
            )
        errors[penalty] = error
    fit = fit_ridge(h, y, clusters, (0.01, 0.3, 10.0))
    assert fit.penalty == min(errors, key=lambda p: errors[p])
    assert fit.r2 == pytest.approx(1 - errors[fit.penalty] / ((y - y.mean()) ** 2).sum(), abs=1e-4)
    model = SklearnRidge(alpha=fit.penalty * unit).fit(x, y)
    np.testing.assert_allclose(fit.coef, model.coef_ / h.std(0), atol=1e-4)
    flat = np.concatenate([h, np.full((40, 1), 7.0, dtype=np.float32)], axis=1)
    assert fit_ridge(flat, y, clusters, (0.3,)).coef[-1] == 0


def test_planted_neurons_rank_first_by_the_poles() -> None:
    stats = make_stats(clusters=40)
    count = LAYERS * len((*WRITERS, *READERS, *NEGATIVE))
    neurons = select(stats, "benevolence", method="regression", k=count, depth=(0.0, 1.0))
    assert set(neurons.df["neuron"]) & {*WRITERS, *READERS} and (neurons.df["sign"] == 1).all()
    found = sum(neuron in {*WRITERS, *READERS, *NEGATIVE, 30, 31} for neuron in neurons.df["neuron"])
    assert found > 0.8 * count
    assert 0 < neurons.settings["regression"]["heldout_r2"] < 1 and not neurons.settings["regression"]["scored"]


def test_scores_decide_the_signs() -> None:
    """The judge scores by neuron 10 of layer 1 alone, and against the poles: it is first, and moved the other way."""
    stats = make_stats(clusters=60)
    assert stats.samples is not None
    table = stats.samples.table
    table["text"] = [f"text {i}" for i in range(len(table))]
    scores = {f"text {i}": -float(h[1, 10]) for i, h in enumerate(stats.samples.h)}
    neurons = select(stats, "benevolence", method="regression", k=5, depth=(0.0, 1.0), scores=scores, agree=False)
    assert places(neurons.df)[0] == (1, 10)
    assert neurons.df["sign"].iloc[0] == -1 and neurons.df["coef"].iloc[0] < 0
    assert neurons.settings["regression"]["heldout_r2"] > 0.5 and "scores" not in neurons.settings["options"]
    step = Shift(neurons, weights="sign").step(neurons.df)
    np.testing.assert_array_equal(np.sign(step), np.sign(neurons.df["coef"]))
    # neurons of which the mean difference lowers the score are left out for edits along that difference
    agreeing = select(stats, "benevolence", method="regression", k=5, depth=(0.0, 1.0), scores=scores)
    assert (1, 10) not in places(agreeing.df) and (agreeing.df["effect"] > 0).all()


def test_refusals() -> None:
    stats = make_stats()
    with pytest.raises(InputError, match="samples=True"):
        select(make_stats(keep=False), "benevolence", method="regression")
    with pytest.raises(InputError, match="hold no texts"):
        select(stats, "benevolence", method="regression", scores={"a": 1.0})
    assert stats.samples is not None
    stats.samples.table["text"] = "the same"
    with pytest.raises(InputError, match="no text of benevolence"):
        select(stats, "benevolence", method="regression", scores={"a": 1.0})
    with pytest.raises(InputError, match="different scores"):
        select(stats, "benevolence", method="regression", scores={"the same": 1.0})
