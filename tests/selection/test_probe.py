"""Selector probe against scikit-learn by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from helpers.planted_neurons import LAYERS, READERS, SHARED, WIDTH, WRITERS, activations, make_stats, table
from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.selection import SelectionWarning, effect_table, label_shuffled, select
from neva_tl.selection.probe import probe_weights

pytestmark = pytest.mark.core


def by_hand(h: np.ndarray, rows: object, **how: object) -> np.ndarray:
    """Weights with all other values' + texts among the negatives (others is larger than their number)."""
    value, pole = rows["value"].to_numpy(), rows["pole"].to_numpy()  # type: ignore[index]
    keep = (value == "benevolence") | (pole == "+")
    label = ((value == "benevolence") & (pole == "+"))[keep]
    model = LogisticRegression(class_weight="balanced", max_iter=1000, **how)  # type: ignore[arg-type]
    return make_pipeline(StandardScaler(), model).fit(h[keep], label)[-1].coef_[0]


@pytest.mark.parametrize(
    ("penalty", "how"),
    [("l2", {"C": 0.05}), ("elasticnet", {"C": 0.1, "solver": "saga", "l1_ratio": 0.5, "random_state": 0})],
)
def test_weights_equal_scikit_learn(penalty: str, how: dict[str, object]) -> None:
    rows = table(clusters=16)
    h = activations(rows)
    stats = ActivationStats.from_samples(h, rows)
    found = probe_weights(stats, "benevolence", penalty=penalty, C=how["C"], others=10**6)  # type: ignore[arg-type]
    for layer in range(LAYERS):
        np.testing.assert_allclose(found[layer], by_hand(h[:, layer].astype(float), rows, **how), rtol=0.02, atol=2e-3)
    if penalty == "elasticnet":
        assert (found == 0).mean() > 0.3
        return
    whole = probe_weights(stats, "benevolence", scope="all", layers=(0, 2), C=0.05, others=10**6)
    theirs = by_hand(h[:, [0, 2]].reshape(len(h), -1).astype(float), rows, C=0.05)
    np.testing.assert_allclose(whole[[0, 2]].ravel(), theirs, rtol=0.02, atol=1e-4)
    assert (whole[1] == 0).all()


def test_planted_neurons_are_found_and_scored() -> None:
    stats = make_stats(clusters=40)
    found = select(stats, "benevolence", method="probe", k=6 * LAYERS)
    assert set(found.df["neuron"]) <= {*WRITERS, *READERS, 20, *SHARED} and {*WRITERS, *READERS} <= set(
        found.df["neuron"]
    )
    np.testing.assert_allclose(found.df["score"], found.df["weight"].abs() * found.df["specific"])
    assert (found.df["score"].diff().dropna() <= 0).all()
    assert {"g", "lo", "hi", "p", "q", "split_half", "p_fwe"} <= set(found.df)
    at = list(zip(found.df["layer"], found.df["neuron"], strict=True))
    same = effect_table(stats, "benevolence").set_index(["layer", "neuron"]).loc[at]
    np.testing.assert_allclose(found.df["g"], same["g"])


def test_one_line_says_that_a_probe_did_not_converge() -> None:
    stats = make_stats(clusters=16)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        select(stats, "benevolence", method="probe", steps=2, C=10.0)
    lines = [str(w.message) for w in caught if issubclass(w.category, SelectionWarning)]
    assert len(caught) == len(lines) == 1
    assert "layers 0, 1, 2 did not converge in 2 steps" in lines[0] and "\n" not in lines[0]


def test_constant_neurons_get_no_weight() -> None:
    rows = table(clusters=16)
    h = activations(rows)
    h[:, 1] = 0.5
    h[:, 0, 3] = 0.1
    weight = probe_weights(ActivationStats.from_samples(h, rows), "benevolence")
    assert (weight[1] == 0).all() and weight[0, 3] == 0 and np.isfinite(weight).all()


def test_a_shuffled_placebo_follows_it() -> None:
    stats = make_stats(clusters=40)
    found = select(stats, "benevolence", method="probe", k=8)
    placebo = label_shuffled(stats, "benevolence", like=found, seed=1)
    assert placebo.settings["base"] == "probe" and 1 <= len(placebo) <= 8
    mine = set(zip(found.df["layer"], found.df["neuron"], strict=True))
    assert len(mine & set(zip(placebo.df["layer"], placebo.df["neuron"], strict=True))) <= 2


def test_refusals() -> None:
    stats = make_stats(clusters=16)
    for message, call in {
        "samples=True": lambda: select(make_stats(keep=False), "benevolence", method="probe"),
        "unknown probe scope": lambda: select(stats, "benevolence", method="probe", scope="head"),
        "unknown probe penalty": lambda: select(stats, "benevolence", method="probe", penalty="l0"),
        "C > 0": lambda: select(stats, "benevolence", method="probe", C=-1.0),
        "site post": lambda: select(stats, "benevolence", method="probe", site="gate"),
        "no option": lambda: select(stats, "benevolence", method="probe", path="direct"),
    }.items():
        with pytest.raises(InputError, match=message):
            call()
    assert stats.d_mlp == WIDTH
