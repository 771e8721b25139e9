"""Selector lape against SciPy's entropy on the raw samples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy

from helpers.planted_neurons import VALUES
from helpers.selected import places, shares
from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.selection import SelectionWarning, select

pytestmark = pytest.mark.core


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


def test_lape_needs_values_to_compare() -> None:
    rows = pd.DataFrame(
        [{"value": "power", "pole": p, "pair_id": i, "cluster": f"c{i}"} for i in range(8) for p in "+-"]
    )
    stats = ActivationStats.from_samples(np.random.default_rng(0).normal(size=(16, 1, 5)).astype(np.float32), rows)
    with pytest.raises(InputError, match="one alone"):
        select(stats, "power", method="lape")
