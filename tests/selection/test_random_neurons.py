"""Placebo: random neurons matched on layer and write."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.planted_neurons import WIDTH, make_stats, weights
from neva_tl.core.errors import InputError
from neva_tl.selection import random_like, select

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
    found = select(stats, "benevolence", method="effect_size", k=6)
    first, again, other = (random_like(found, stats, model, seed=s).df for s in (1, 1, 2))
    assert first.equals(again) and not first["neuron"].equals(other["neuron"])


def test_random_of_most_of_a_layer(model: object) -> None:
    stats = make_stats(clusters=40)
    found = select(
        stats,
        "benevolence",
        method="effect_size",
        k=WIDTH,
        layers=[0],
        require_q=False,
        require_split_half=False,
        lam=0.0,
    )
    assert len(found) == WIDTH
    assert random_like(found, stats, model).df["neuron"].nunique() == WIDTH


def test_random_by_name(model: object) -> None:
    stats = make_stats(clusters=40)
    placebo = select(stats, "benevolence", method="random", model=model, base="neva")
    assert placebo.method == "random" and placebo.settings["like"] == "neva"
    like = select(stats, "benevolence", method="effect_size", k=3)
    assert len(select(stats, "benevolence", method="random", model=model, like=like)) == 3
    with pytest.raises(InputError, match="pass model="):
        select(stats, "benevolence", method="random")
