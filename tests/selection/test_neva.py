"""Selector neva: readers rank below writers; the write equals hand algebra; specificity on the written side."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.planted_neurons import D_MODEL, LAYERS, NEGATIVE, READERS, WRITERS, directions, make_stats, weights
from neva_tl.core.errors import InputError
from neva_tl.selection import select, write_table
from neva_tl.selection.neva import directions as residual_directions

pytestmark = pytest.mark.core


def test_readers_rank_below_writers(model: object) -> None:
    stats = make_stats(clusters=40)
    by_effect = select(stats, "benevolence", method="effect_size", k=9)
    by_write = select(stats, "benevolence", method="neva", model=model)
    top = by_write.head(LAYERS * (len(WRITERS) + len(NEGATIVE))).df
    assert set(top["neuron"]) == {*WRITERS, *NEGATIVE}
    assert set(by_effect.df["neuron"]) & set(READERS)
    assert not set(top["neuron"]) & set(READERS)
    assert (by_write.df["write"] > 0).all() and (by_write.df["score"] > 0).all()
    np.testing.assert_allclose(
        by_write.df["score"], by_write.df["specific"] * (by_write.df["write"] - 2 * by_write.df["write_other"])
    )


def test_write_equals_hand_algebra(model: object) -> None:
    stats = make_stats(clusters=40)
    written = write_table(stats, "benevolence", model, offset=1)
    u = directions()
    others = np.stack([u["security"], u["tradition"]]).T
    own = u["benevolence"] - others @ np.linalg.pinv(others) @ u["benevolence"]
    own /= np.linalg.norm(own)
    delta, w = stats.delta("benevolence"), weights()
    np.testing.assert_allclose(written["write"], delta * (w @ own), rtol=1e-3, atol=1e-5)
    positive = np.maximum(0, delta[..., None] * (w @ others)).mean(-1)
    np.testing.assert_allclose(written["write_other"], positive, rtol=1e-3, atol=1e-5)


def test_directions_are_unit_and_orthogonal_to_the_others(model: object) -> None:
    target, others = residual_directions(make_stats(), "tradition")
    np.testing.assert_allclose(np.linalg.norm(target, axis=-1), 1)
    np.testing.assert_allclose(np.einsum("ld,jld->jl", target, others), 0, atol=1e-6)
    plain, _ = residual_directions(make_stats(), "tradition", project=False)
    assert not np.allclose(plain, target)


def test_offset_is_cut_at_the_last_layer(model: object) -> None:
    stats = make_stats()
    far = write_table(stats, "benevolence", model, offset=50)
    near = write_table(stats, "benevolence", model, offset=LAYERS)
    np.testing.assert_array_equal(far["write"], near["write"])


def test_writing_other_values_costs(model: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from neva_tl import models

    w = weights()
    w[:, WRITERS[0]] += 3 * directions()["security"]
    import torch

    monkeypatch.setattr(models, "w_out", lambda model, layer: torch.tensor(w[layer]))
    stats = make_stats(clusters=40)
    strict = select(stats, "benevolence", method="neva", model=model)
    lenient = select(stats, "benevolence", method="neva", model=model, lam_write=0.0)
    assert WRITERS[0] in set(lenient.df["neuron"]) and WRITERS[0] not in set(strict.df["neuron"])
    worst = select(stats, "benevolence", method="neva", model=model, other="max", lam_write=0.5)
    assert (worst.df["write_other"] >= 0).all()


def test_needs(model: object) -> None:
    from dataclasses import replace

    stats = make_stats()
    with pytest.raises(InputError, match="pass model="):
        select(stats, "benevolence", method="neva")
    with pytest.raises(InputError, match="site post"):
        select(stats, "benevolence", method="neva", model=model, site="gate")
    silent = replace(stats, resid=np.zeros_like(stats.resid))
    with pytest.raises(InputError, match="residual"):
        select(silent, "benevolence", method="neva", model=model)
    narrow = replace(stats, resid=stats.resid[..., : D_MODEL - 1])
    with pytest.raises(InputError, match="do not belong"):
        select(narrow, "benevolence", method="neva", model=model)
    with pytest.raises(InputError, match="negative"):
        select(stats, "benevolence", method="neva", model=model, offset=-1)
