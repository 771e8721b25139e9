"""AUSteer's momentum against counts by hand, with and without pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.methods import Evidence, build
from neva_tl.methods.austeer import activation_momentum, atomic_units, austeer

pytestmark = pytest.mark.core
#: Four pairs of three neurons: always higher, lower in three of four, equal.
PLUS = np.array([[3.0, -4.0, 5.0], [4.0, -3.0, 5.0], [2.0, -5.0, 5.0], [6.0, 1.0, 5.0]])
MINUS = np.array([[1.0, -1.0, 5.0], [3.0, -2.0, 5.0], [1.5, -1.0, 5.0], [1.0, 0.5, 5.0]])


def stats(paired: bool = True) -> ActivationStats:
    rows = [{"value": "power", "pole": pole, "pair_id": f"p{i}" if paired else None} for pole in "+-" for i in range(4)]
    table = pd.DataFrame(rows).assign(cluster=[f"c{i}" for i in range(4)] * 2, fold=[0, 1, 0, 1] * 2)
    h = np.concatenate([PLUS, MINUS])[:, None].astype(np.float32)
    order = [5, 0, 3, 4, 2, 7, 1, 6]  # pairs are matched by name, not by place
    return ActivationStats.from_samples(h[order], table.iloc[order].reset_index(drop=True))


def test_momentum_counts_the_pairs_of_the_majoritys_sign() -> None:
    momentum, ratio = activation_momentum(stats(), "power")
    np.testing.assert_allclose(momentum, [[1.0, -0.75, 0.0]])
    d = PLUS - MINUS
    np.testing.assert_allclose(ratio[0, :2], d[:, :2].mean(0) / d[:, :2].std(0, ddof=1), rtol=1e-6)
    assert ratio[0, 2] == 0


def test_without_pairs_every_plus_text_meets_every_minus_text() -> None:
    momentum, _ = activation_momentum(stats(paired=False), "power")
    higher = (PLUS[:, None] > MINUS).mean(axis=(0, 1)) + (PLUS[:, None] == MINUS).mean(axis=(0, 1)) / 2
    want = np.where(higher >= 0.5, higher, higher - 1)
    np.testing.assert_allclose(momentum[0, :2], want[:2])
    assert 0 < want[0] < 1 and want[1] < 0
    assert not len(atomic_units(stats(paired=False), "power").df.query("neuron == 2")), "no difference, no unit"


def test_the_sign_that_moves_a_neuron_towards_the_plus_pole() -> None:
    table = atomic_units(stats(), "power").df
    # the second neuron is negative and lower on the + pole: it grows in size, where the published sign shrinks it
    assert table["neuron"].tolist() == [0, 1] and table["gamma"].tolist() == [1.0, 0.75]
    step = table["gamma"] * (table["mean_plus"] + table["mean_minus"]) / 2
    assert (np.sign(step) == np.sign(table["mean_plus"] - table["mean_minus"])).all()
    published = atomic_units(stats(), "power", sign="published").df
    assert published["gamma"].tolist() == published["momentum"].tolist() == [1.0, -0.75]


def test_ties_are_ordered_by_the_ratio_and_the_number_is_limited(evidence: Evidence) -> None:
    df = atomic_units(evidence.stats, "power", most=30).df
    momentum, ratio = activation_momentum(evidence.stats, "power")
    at = (df["layer"].to_numpy(), df["neuron"].to_numpy())
    assert len(df) == 30 and (np.diff(df["score"]) <= 0).all() and (df["score"] == 1).sum() > 1
    for score, tied in df.assign(ratio=np.abs(ratio[at])).groupby("score"):
        assert (np.diff(tied["ratio"]) <= 0).all(), score
    np.testing.assert_allclose(df["momentum"], momentum[at])
    outside = np.abs(momentum).ravel()
    outside[at[0] * 48 + at[1]] = 0
    assert outside.max() <= df["score"].min()
    assert len(build("austeer", evidence, "power").neurons) == 100  # type: ignore[attr-defined]


def test_no_difference_is_refused(evidence: Evidence) -> None:
    table = stats().samples.table  # type: ignore[union-attr]
    flat = ActivationStats.from_samples(np.ones((8, 1, 3), np.float32), table)
    with pytest.raises(InputError, match="austeer has nothing to edit"):
        austeer(replace(evidence, stats=flat), "power")


def test_the_dose_scales_gamma(evidence: Evidence) -> None:
    item = austeer(evidence, "power").with_dose(10.0)
    np.testing.assert_allclose(item.per_neuron(item.neurons.df)[0], 1 + 10 * item.neurons.df["gamma"])
