"""Selector write: the score equals hand algebra on raw weights; planted writers, and no readers, are selected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import neva_tl as nv
from helpers.contrast_sets import small_set
from helpers.planted_neurons import D_MODEL, LAYERS, NEGATIVE, READERS, WIDTH, WRITERS, directions, make_stats, weights
from helpers.selected import places
from neva_tl.core.errors import InputError
from neva_tl.selection import select
from neva_tl.selection.write import layers_between

pytestmark = pytest.mark.core


def test_planted_writers_are_selected(model: object) -> None:
    stats = make_stats(clusters=40)
    count = LAYERS * (len(WRITERS) + len(NEGATIVE))
    neurons = select(stats, "benevolence", method="write", model=model, k=count, depth=(0.0, 1.0))
    assert set(neurons.df["neuron"]) == {*WRITERS, *NEGATIVE} and len(neurons) == count
    assert not set(neurons.df["neuron"]) & set(READERS)
    assert (neurons.df["q"] < 0.05).all() and neurons.df["score"].is_monotonic_decreasing
    # selecting by effect size takes readers too
    assert set(select(stats, "benevolence", method="effect_size", k=count).df["neuron"]) & set(READERS)


def test_score_equals_hand_algebra(model: object) -> None:
    stats = make_stats(clusters=12)
    u, w = directions()["benevolence"], weights()
    raw = stats.delta("benevolence") * (w @ u)
    neurons = select(stats, "benevolence", method="write", model=model, depth=(0.0, 1.0))
    at = places(neurons.df)
    np.testing.assert_allclose(neurons.df["score"], [raw[place] for place in at], rtol=1e-3, atol=1e-6)
    # every neuron with a positive score, and no other, since they are fewer than the default k
    assert set(at) == {tuple(place) for place in np.argwhere(raw > 0)}
    others = np.stack([directions()["security"], directions()["tradition"]]).T
    leak = np.maximum(0, stats.delta("benevolence")[..., None] * (w @ others))
    for other, reduce in (("mean", np.mean), ("max", np.max)):
        penalised = raw - 1.5 * reduce(leak, axis=-1)
        strict = select(stats, "benevolence", method="write", model=model, depth=(0.0, 1.0), lam_write=1.5, other=other)
        assert set(places(strict.df)) == {tuple(place) for place in np.argwhere(penalised > 1e-7)}
        np.testing.assert_allclose(strict.df["score"], [penalised[p] for p in places(strict.df)], rtol=1e-3, atol=1e-5)


def test_raw_weights_of_a_model(loaded: dict[str, Any]) -> None:
    tiny = loaded["llama"]
    stats = nv.collect(tiny, small_set(), split=None)
    assert stats.n_layers == 3
    neurons = select(stats, "power", method="write", model=tiny, k=40)
    # .25 to .8 of three layers
    assert set(neurons.layers) <= {1, 2} and len(neurons) == 40
    raw = {}
    for layer in (1, 2):
        plus, minus = stats.resid[stats.index("power")][:, layer].astype(np.float64)
        u = (plus - minus) / np.linalg.norm(plus - minus)
        out = tiny.blocks[layer].mlp.W_out.detach().numpy().astype(np.float64)
        for k in range(stats.d_mlp):
            raw[layer, k] = stats.delta("power")[layer, k] * float(out[k] @ u)
    best = sorted(raw, key=lambda at: -raw[at])[:40]
    assert places(neurons.df) == best
    np.testing.assert_allclose(neurons.df["score"], [raw[at] for at in best], rtol=1e-4)
    above = select(stats, "power", method="write", model=tiny, k=5, layers=[1], offset=1)
    plus, minus = stats.resid[stats.index("power")][:, 2].astype(np.float64)
    u = (plus - minus) / np.linalg.norm(plus - minus)
    by_hand = stats.delta("power")[1] * (tiny.blocks[1].mlp.W_out.detach().numpy().astype(np.float64) @ u)
    assert above.df["neuron"].tolist() == np.argsort(-by_hand)[:5].tolist()


def test_projection_and_screen(model: object) -> None:
    stats = make_stats(clusters=40)
    plain = select(stats, "benevolence", method="write", model=model, depth=(0.0, 1.0))
    u, w = directions(), weights()
    others = np.stack([u["security"], u["tradition"]]).T
    own = u["benevolence"] - others @ np.linalg.pinv(others) @ u["benevolence"]
    raw = stats.delta("benevolence") * (w @ (own / np.linalg.norm(own)))
    projected = select(stats, "benevolence", method="write", model=model, depth=(0.0, 1.0), project=True)
    np.testing.assert_allclose(projected.df["score"], [raw[p] for p in places(projected.df)], rtol=1e-3, atol=1e-5)
    screened = select(stats, "benevolence", method="write", model=model, depth=(0.0, 1.0), screened=True)
    assert set(places(screened.df)) == {
        place
        for place, q, half in zip(places(plain.df), plain.df["q"], plain.df["split_half"], strict=True)
        if q <= 0.05 and half
    }
    assert len(screened) < len(plain)
    assert plain.settings["require_q"] is False and screened.settings["require_q"] is True


def test_layers_and_k(model: object) -> None:
    from dataclasses import replace

    stats = make_stats()
    for n, first, last in ((24, 6, 19), (28, 7, 22), (30, 8, 24)):
        deep = replace(stats, info={**stats.info, "n_layers": n})
        # only the first three layers of the deep model were collected
        with pytest.raises(InputError, match="no collected layer"):
            layers_between(deep, (0.25, 0.8))
        wide = replace(deep, **{name: np.repeat(getattr(deep, name), 10, axis=-2) for name in ("mean", "resid")})
        assert layers_between(wide, (0.25, 0.8)) == tuple(range(first, last + 1))
    neurons = select(stats, "benevolence", method="write", model=model)
    assert set(neurons.layers) == {1, 2} and neurons.settings["layers"] == [1, 2]
    assert neurons.settings["counts"]["neurons"] == 2 * WIDTH
    for depth in ((0.8, 0.2), (0.1,), (-1.0, 0.5)):
        with pytest.raises(InputError, match="not a range"):
            select(stats, "benevolence", method="write", model=model, depth=depth)


def test_needs(model: object) -> None:
    from dataclasses import replace

    stats = make_stats()
    with pytest.raises(InputError, match="pass model="):
        select(stats, "benevolence", method="write")
    with pytest.raises(InputError, match="site post"):
        select(stats, "benevolence", method="write", model=model, site="gate")
    with pytest.raises(InputError, match="do not belong"):
        select(replace(stats, resid=stats.resid[..., : D_MODEL - 1]), "benevolence", method="write", model=model)


def test_methods_edit_the_selected_neurons(loaded: dict[str, Any]) -> None:
    tiny = loaded["llama"]
    stats = nv.collect(tiny, small_set(), split=None, samples=True)
    neurons = select(stats, "power", method="write", model=tiny, k=12)
    evidence = nv.baselines.Evidence(tiny, stats, {"power": neurons}, scope="all")
    shift = nv.baselines.build("neva_shift", evidence, "power").with_dose(3.0)
    rows = neurons.at(neurons.layers[0])
    h = torch.zeros(1, 2, stats.d_mlp)
    change = next(c for c in shift.changes(tiny) if c.layer == neurons.layers[0])
    # the dose is a multiple of each neuron's mean difference, whatever the selector
    expected = 3.0 * stats.delta("power")[neurons.layers[0], rows["neuron"].to_numpy()]
    np.testing.assert_allclose(change.apply(h)[0, 1].numpy()[rows["neuron"]], expected, rtol=1e-4, atol=1e-6)
    aware = nv.baselines.build("neva", evidence, "power").with_dose(8.0)
    assert {change.layer for change in aware.changes(tiny)} <= set(neurons.layers)
    plain = nv.generate(tiny, ["the old king"], max_new_tokens=8)
    with nv.edit(tiny, aware):
        assert nv.generate(tiny, ["the old king"], max_new_tokens=8)
    with nv.edit(tiny, shift.with_dose(30.0)):
        assert nv.generate(tiny, ["the old king"], max_new_tokens=8) != plain
