"""Selectors of other papers on planted data, against NumPy on the raw samples."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_neurons import LAYERS, NEGATIVE, READERS, SHARED, VALUES, WIDTH, WRITERS, make_stats
from scipy.stats import entropy

from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.selection import SelectionWarning, default_k, effect_table, select

pytestmark = pytest.mark.core

RAISED = {(layer, k) for layer in range(LAYERS) for k in (*WRITERS, *READERS, *SHARED)}
LOWERED = {(layer, k) for layer in range(LAYERS) for k in NEGATIVE}


def shares(stats: ActivationStats, value: str, pole: str) -> np.ndarray:
    assert stats.samples is not None
    table = stats.samples.table
    rows = ((table["value"] == value) & (table["pole"] == pole)).to_numpy()
    return np.round((stats.samples.h[rows] > 0).mean(axis=0), 6)


def places(df: pd.DataFrame) -> list[tuple[int, int]]:
    return list(zip(df["layer"].tolist(), df["neuron"].tolist(), strict=True))


def test_activation_probability_is_the_difference_of_shares() -> None:
    stats = make_stats()
    found = select(stats, "benevolence", method="activation_probability", k=20)
    diff = shares(stats, "benevolence", "+") - shares(stats, "benevolence", "-")
    want = np.argsort(-diff.ravel(), kind="stable")[:20]
    assert places(found.df) == [divmod(int(k), WIDTH) for k in want]
    np.testing.assert_allclose(found.df["score"], diff.ravel()[want], atol=1e-6)
    np.testing.assert_allclose(found.df["p_plus"] - found.df["p_minus"], found.df["p_diff"])
    assert found.settings["k"] == 20 and len(RAISED & set(places(found.df))) >= 15
    lowered = select(stats, "benevolence", method="activation_probability", k=3, pole="-")
    assert set(places(lowered.df)) == LOWERED and (lowered.df["p_diff"] < 0).all()
    np.testing.assert_allclose(lowered.df["score"], -lowered.df["p_diff"])


def test_activation_probability_keeps_the_top_and_all_that_are_large() -> None:
    stats = make_stats()
    diff = shares(stats, "benevolence", "+") - shares(stats, "benevolence", "-")
    cap = default_k(LAYERS * WIDTH)
    for top, least in ((2000, 0.1), (5, 0.3), (2000, 0.9), (1, 0.05)):
        found = select(stats, "benevolence", method="activation_probability", top=top, least=least)
        assert len(found) == max(min(top, cap, int((diff > 0).sum())), int((diff >= least - 1e-9).sum()))
        assert found.settings["k"] is None
        assert found.df["score"].is_monotonic_decreasing and (found.df["score"] > 0).all()


def test_columns_of_the_effect_table_come_along() -> None:
    stats = make_stats()
    table = effect_table(stats, "benevolence").set_index(["layer", "neuron"])
    for method in ("activation_probability", "lape", "mean_shift"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SelectionWarning)
            found = select(stats, "benevolence", method=method, **({"share": 0.2} if method == "lape" else {}))
        assert len(found) and found.method == method
        for name in ("g", "lo", "hi", "p", "q", "leak", "mean_plus", "mean_minus", "sd"):
            want = table.loc[places(found.df), name].to_numpy()
            np.testing.assert_array_equal(found.df[name].to_numpy(), want, err_msg=f"{method} {name}")


def test_lape_finds_neurons_that_fire_for_one_value() -> None:
    """Planted: neuron 5 fires for benevolence alone, 6 for tradition alone, 7 for all, the others rarely and evenly."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        [
            {"value": v, "pole": p, "pair_id": f"{v}{i}", "cluster": f"{v}{i}"}
            for v in VALUES
            for i in range(50)
            for p in "+-"
        ]
    )
    h = rng.normal(-1.5, 1.0, size=(len(table), 2, 40)).astype(np.float32)
    for value, k in (("benevolence", 5), ("tradition", 6)):
        h[(table["value"] == value).to_numpy(), 1, k] += 4.0
    h[:, 1, 7] += 4.0
    stats = ActivationStats.from_samples(h, table)
    for share in (0.01, 0.05):
        found = select(stats, "benevolence", method="lape", share=share)
        p = np.stack([shares(stats, v, "+").ravel() for v in stats.values])
        often = np.percentile(p, 95)
        spread = np.where((p > often).any(axis=0), entropy(p, axis=0).round(9), np.inf)
        low = np.argsort(spread, kind="stable")[: max(1, round(share * 80))]
        own = [k for k in low if p[stats.index("benevolence"), k] > often]
        assert places(found.df) == [divmod(int(k), 40) for k in own]
        np.testing.assert_allclose(found.df["entropy"], spread[own], rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(found.df["score"], 1 - spread[own] / np.log(3), atol=1e-6)
    assert places(select(stats, "benevolence", method="lape", share=0.05).df)[0] == (1, 5)
    assert places(select(stats, "tradition", method="lape", share=0.05).df)[0] == (1, 6)
    with pytest.warns(SelectionWarning, match="no neuron is left for security"):
        assert not len(select(stats, "security", method="lape"))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 0.99), st.floats(0.0, 1.5))
def test_mean_shift_rule(seed: int, quantile: float, least_d: float) -> None:
    stats = make_stats(seed % 1000, clusters=8)
    assert stats.samples is not None
    table = stats.samples.table
    own = (table["value"] == "benevolence").to_numpy()
    plus, minus = (stats.samples.h[own & (table["pole"] == pole).to_numpy()].astype(float) for pole in "+-")
    s = plus.mean(0) - minus.mean(0)
    d = s / np.sqrt((plus.var(0, ddof=1) + minus.var(0, ddof=1)) / 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        found = select(stats, "benevolence", method="mean_shift", quantile=quantile, least_d=least_d, k=LAYERS * WIDTH)
    kept = (np.abs(s) > np.quantile(np.abs(s), quantile)) & (np.abs(d) > least_d)
    # a neuron at the very edge may fall either way by round-off
    edge = np.isclose(np.abs(d), least_d, atol=1e-5)
    got = set(places(found.df))
    assert got ^ {tuple(at) for at in np.argwhere(kept)} <= {tuple(at) for at in np.argwhere(edge)}
    assert found.df["score"].is_monotonic_decreasing
    if len(found):
        np.testing.assert_allclose(found.df["rank_weight"], np.linspace(1, 0.75, len(found)))
        np.testing.assert_allclose(found.df["cohen_d"], [d[at] for at in places(found.df)], rtol=1e-4)


def test_weights_belong_to_what_is_kept() -> None:
    found = select(make_stats(), "benevolence", method="mean_shift", quantile=0.9, k=4)
    np.testing.assert_allclose(found.df["rank_weight"], [1, 1 - 0.25 / 3, 1 - 0.5 / 3, 0.75])


def test_layers_are_heeded() -> None:
    stats = make_stats()
    for method in ("activation_probability", "lape", "mean_shift"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SelectionWarning)
            options: dict[str, Any] = {"share": 0.5} if method == "lape" else {}
            assert set(select(stats, "benevolence", method=method, layers=[1], **options).layers) <= {1}


@pytest.mark.parametrize(
    ("method", "options", "match"),
    [
        ("activation_probability", {"top": 0}, "above 0"),
        ("activation_probability", {"least": 0.0}, "above 0"),
        ("activation_probability", {"pole": "?"}, "unknown pole"),
        ("activation_probability", {"site": "gate"}, "gate"),
        ("lape", {"share": 0.0}, "share"),
        ("lape", {"percentile": 100.0}, "percentile"),
        ("mean_shift", {"quantile": 1.0}, "quantile"),
        ("mean_shift", {"least_d": -1.0}, "least_d"),
    ],
)
def test_bad_input(method: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match) as error:
        select(make_stats(), "benevolence", method=method, **options)
    assert "\n" not in str(error.value)


def test_lape_needs_values_to_compare() -> None:
    rows = pd.DataFrame(
        [{"value": "power", "pole": p, "pair_id": i, "cluster": f"c{i}"} for i in range(8) for p in "+-"]
    )
    stats = ActivationStats.from_samples(np.random.default_rng(0).normal(size=(16, 1, 5)).astype(np.float32), rows)
    with pytest.raises(InputError, match="one alone"):
        select(stats, "power", method="lape")
