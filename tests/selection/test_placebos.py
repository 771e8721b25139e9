"""Placebos: random neurons matched on layer and write, and selection on shuffled poles."""

from __future__ import annotations

import numpy as np
import pytest
from planted_neurons import READERS, WIDTH, WRITERS, make_stats, table, weights

from neva_tl.core.errors import InputError
from neva_tl.selection import label_shuffled, random_like, select
from neva_tl.selection.shuffled import shuffle_poles, shuffled_stats

pytestmark = pytest.mark.core


def layer_writes(df: object) -> dict[int, float]:
    w = weights()
    return {
        layer: float(np.linalg.norm((rows["mean_plus"] - rows["mean_minus"]).to_numpy() @ w[layer][rows["neuron"]]))
        for layer, rows in df.groupby("layer")  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize("signs", ["random", "own"])
def test_random_matches_layers_and_writes(model: object, signs: str) -> None:
    stats = make_stats(clusters=40)
    found = select(stats, "benevolence", method="neva", model=model)
    placebo = random_like(found, stats, model, seed=3, signs=signs)
    assert placebo.df["layer"].value_counts().to_dict() == found.df["layer"].value_counts().to_dict()
    chosen = set(zip(found.df["layer"], found.df["neuron"], strict=True))
    assert not chosen & set(zip(placebo.df["layer"], placebo.df["neuron"], strict=True))
    assert layer_writes(placebo.df) == pytest.approx(layer_writes(found.df), rel=1e-4)
    assert placebo.method == "random" and placebo.value == "benevolence"


def test_random_is_seeded(model: object) -> None:
    stats = make_stats(clusters=40)
    found = select(stats, "benevolence", k=6)
    first, again, other = (random_like(found, stats, model, seed=s).df for s in (1, 1, 2))
    assert first.equals(again) and not first["neuron"].equals(other["neuron"])


def test_random_of_most_of_a_layer(model: object) -> None:
    stats = make_stats(clusters=40)
    found = select(stats, "benevolence", k=WIDTH, layers=[0], require_q=False, require_split_half=False, lam=0.0)
    assert len(found) == WIDTH
    assert random_like(found, stats, model).df["neuron"].nunique() == WIDTH


def test_random_by_name(model: object) -> None:
    stats = make_stats(clusters=40)
    placebo = select(stats, "benevolence", method="random", model=model, base="neva")
    assert placebo.method == "random" and placebo.settings["like"] == "neva"
    like = select(stats, "benevolence", k=3)
    assert len(select(stats, "benevolence", method="random", model=model, like=like)) == 3
    with pytest.raises(InputError, match="pass model="):
        select(stats, "benevolence", method="random")


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
    found = select(stats, "benevolence", k=5)
    with pytest.raises(InputError, match="samples=True"):
        label_shuffled(make_stats(keep=False), "benevolence", like=found)
    with pytest.raises(InputError, match="placebo"):
        label_shuffled(stats, "benevolence", like=random_like(found, stats, model))
