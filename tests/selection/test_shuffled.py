"""Placebo: selection on shuffled poles."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.planted_neurons import READERS, WRITERS, make_stats, table
from neva_tl.core.errors import InputError
from neva_tl.selection import label_shuffled, random_like, select
from neva_tl.selection.shuffled import shuffle_poles, shuffled_stats

pytestmark = pytest.mark.core


def test_shuffling_keeps_pairs_and_cancels() -> None:
    rows = table(values=("benevolence",), clusters=20)
    mixed = shuffle_poles(rows, np.random.default_rng(0))
    assert (mixed.groupby("pair_id")["pole"].nunique() == 2).all()
    swapped = rows["pole"].to_numpy() != mixed["pole"].to_numpy()
    by_cluster = rows.assign(swapped=swapped).groupby("cluster")["swapped"]
    assert (by_cluster.nunique() == 1).all() and by_cluster.first().sum() == 10


def test_shuffling_clusters_of_one_pole_keeps_their_number() -> None:
    rows = table(values=("benevolence",), clusters=12, paired=False)
    rows["cluster"] = rows["cluster"] + rows["pole"]
    mixed = shuffle_poles(rows, np.random.default_rng(1))
    assert mixed["pole"].value_counts().to_dict() == rows["pole"].value_counts().to_dict()
    assert (mixed.groupby("cluster")["pole"].nunique() == 1).all()
    assert (mixed["pole"].to_numpy() != rows["pole"].to_numpy()).any()


def test_shuffled_statistics_lose_the_effect_of_that_value_only() -> None:
    stats = make_stats(clusters=40)
    mixed = shuffled_stats(stats, "benevolence")
    planted = [*WRITERS, *READERS]
    assert np.abs(stats.delta("benevolence")[:, planted]).min() > 1.0
    assert np.abs(mixed.delta("benevolence")[:, planted]).max() < 0.7
    np.testing.assert_array_equal(mixed.delta("tradition"), stats.delta("tradition"))
    np.testing.assert_array_equal(mixed.n, mixed.n)
    assert mixed.n.sum() == stats.n.sum() and mixed.diff_n.sum() == stats.diff_n.sum()


@pytest.mark.parametrize("method", ["effect_size", "neva"])
def test_label_shuffled_selects_as_many_others(model: object, method: str) -> None:
    stats = make_stats(clusters=40)
    found = select(stats, "benevolence", method=method, model=model, k=8)
    placebo = label_shuffled(stats, "benevolence", like=found, model=model, seed=2)
    assert placebo.method == "label_shuffled" and placebo.settings["base"] == method
    assert 1 <= len(placebo) <= 8
    chosen = set(zip(found.df["layer"], found.df["neuron"], strict=True))
    kept = chosen & set(zip(placebo.df["layer"], placebo.df["neuron"], strict=True))
    # by neva the weights still favour writers: only the reading side is shuffled
    assert len(kept) <= (2 if method == "effect_size" else 6)


def test_label_shuffled_by_name_and_needs(model: object) -> None:
    stats = make_stats(clusters=40)
    assert select(stats, "benevolence", method="label_shuffled").method == "label_shuffled"
    found = select(stats, "benevolence", method="effect_size", k=5)
    with pytest.raises(InputError, match="samples=True"):
        label_shuffled(make_stats(keep=False), "benevolence", like=found)
    with pytest.raises(InputError, match="placebo"):
        label_shuffled(stats, "benevolence", like=random_like(found, stats, model))
