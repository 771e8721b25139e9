"""Selector activation_probability against NumPy on the raw samples."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.planted_neurons import LAYERS, NEGATIVE, READERS, SHARED, WIDTH, WRITERS, make_stats
from helpers.selected import places, shares
from neva_tl.selection import default_k, select

pytestmark = pytest.mark.core
RAISED = {(layer, k) for layer in range(LAYERS) for k in (*WRITERS, *READERS, *SHARED)}
LOWERED = {(layer, k) for layer in range(LAYERS) for k in NEGATIVE}


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
