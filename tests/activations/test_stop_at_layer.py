"""Collecting the first layers only: the same numbers, and nothing behind them is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neva_tl as nv
from neva_tl import models
from neva_tl.activations.stats import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.prompts import ContrastSet


@pytest.fixture(scope="module")
def whole(model: Any, pairs: ContrastSet) -> ActivationStats:
    return nv.collect(model, pairs, share_prefixes=False, samples=True)


@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_the_layers_below_are_as_they_are_in_a_whole_collection(model: Any, pairs: ContrastSet, pooling: Any) -> None:
    all_layers = nv.collect(model, pairs, share_prefixes=False, pooling=pooling)
    first = nv.collect(model, pairs, stop_at_layer=1, pooling=pooling)
    assert first.n_layers == 1 < all_layers.n_layers == first.model_layers
    for name, x in first._arrays().items():
        wanted = getattr(all_layers, name)
        layers = wanted if name in ("n", "diff_n") else wanted[..., :1, :]
        np.testing.assert_array_equal(x, layers, err_msg=name)


def test_later_layers_and_the_head_are_not_run(model: Any, pairs: ContrastSet) -> None:
    models.packable(model)  # tried on all layers, once per model
    ran: list[str] = []
    hf = model.original_model
    watched = {"first": hf.model.layers[0].mlp, "second": hf.model.layers[1].mlp, "head": hf.lm_head}
    handles = [
        module.register_forward_pre_hook(lambda m, args, name=name: ran.append(name))
        for name, module in watched.items()
    ]
    try:
        nv.collect(model, pairs, stop_at_layer=1)
    finally:
        for handle in handles:
            handle.remove()
    assert set(ran) == {"first"}


def test_selected_neurons_belong_to_the_whole_model(model: Any, pairs: ContrastSet) -> None:
    stats = nv.collect(model, pairs, stop_at_layer=1)
    neurons = nv.select(stats, "power", method="mean_shift")
    assert (neurons.n_layers, set(neurons.df["layer"])) == (nv.models.info(model).n_layers, {0})
    with nv.edit(model, nv.Ablate(neurons)):
        nv.generate(model, ["One takes"], max_new_tokens=1)


def test_what_does_not_fit_is_refused(model: Any, pairs: ContrastSet, whole: ActivationStats, tmp_path: Path) -> None:
    for wrong in (0, 4):
        with pytest.raises(InputError, match=f"stop_at_layer = {wrong} is not possible: .* has 3 layers"):
            nv.collect(model, pairs, stop_at_layer=wrong)
    with pytest.raises(InputError, match="leave out one of the two"):
        nv.collect(model, pairs, stop_at_layer=1, share_prefixes=True)
    first = nv.collect(model, pairs, stop_at_layer=1)
    with pytest.raises(InputError, match="of 1 and of 3 layers cannot be merged"):
        first.merge(whole)
    with pytest.raises(InputError, match="these statistics hold layers 0 to 0"):
        nv.select(first, "power", layers=(1,))
    again = ActivationStats.load(first.save(tmp_path / "first"))
    assert (again.n_layers, again.model_layers) == (1, 3)
