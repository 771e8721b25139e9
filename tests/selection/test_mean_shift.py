"""Selector mean_shift against NumPy on the raw samples."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.planted_neurons import LAYERS, WIDTH, make_stats
from helpers.selected import places
from neva_tl.selection import SelectionWarning, select

pytestmark = pytest.mark.core


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
