"""Attributions against plain transformers on architectures with norms after the MLP, scales, multipliers and biases."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.families import FAMILIES, Oracle, save_family
from neva_tl import models
from neva_tl.attribution import (
    direct_logits,
    frozen_scale,
    gradient_effects,
    lens_tokens,
    logit_attribution,
    output_scales,
    pre_activation,
    readout,
)
from neva_tl.attribution.gradient import check_gradient
from neva_tl.attribution.outputs import normalises_outputs
from neva_tl.core.errors import InputError, NevaError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Shift, edit
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts.example import Example

TEXT = Example("the old king", "counts")
POSITIVE, NEGATIVE = [10, 11], [20, 21]
#: Whose norms can be frozen by `Oracle.direct_effect`.
DIRECT = ("gemma2", "gemma3", "olmo2", "olmo3", "glm4", "granite", "cohere")


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Oracle]]:
    root = tmp_path_factory.mktemp("families")

    @cache
    def load(name: str) -> tuple[Any, Oracle]:
        folder = save_family(root / name.replace(" ", "_"), name)
        return models.load(folder), Oracle(folder)

    return load


def token_ids(model: Any) -> list[int]:
    return list(inference.encode_one(model, [TEXT])[0].ids)


def one_neuron(model: Any, layer: int, neuron: int, delta: float) -> NeuronSet:
    import pandas as pd

    facts = models.info(model)
    row = {"layer": [layer], "neuron": [neuron], "mean_plus": [delta], "mean_minus": [0.0], "sd": [1.0], "score": [1.0]}
    return NeuronSet("power", "t", pd.DataFrame(row), facts.n_layers, facts.d_mlp)


def difference(logits: Tensor) -> float:
    return float(logits[POSITIVE].mean() - logits[NEGATIVE].mean())


@pytest.mark.parametrize("name", list(FAMILIES))
def test_all_parts_add_up_to_the_logits_of_transformers(family: Any, name: str) -> None:
    model, oracle = family(name)
    result = logit_attribution(model, [TEXT], POSITIVE, NEGATIVE)
    own = oracle.logits(token_ids(model))
    cap = models.logit_soft_cap(model)
    if cap:
        own = cap * torch.atanh(own / cap)
    assert float(result.total()[0]) == pytest.approx(difference(own), abs=1e-4 * float(result.absolute()[0]))
    assert result.error() < 1e-4
    for layer in range(2):
        for site in ("pre", "up") if models.info(model).gated else ("pre",):
            assert pre_activation(model, [TEXT], layer, 3, site=site).error() < 1e-4  # type: ignore[arg-type]
    # the lens ends at the same logits, and the gradient is the slope
    lens = lens_tokens(model, TEXT, k=3)
    assert lens[lens["layer"] == 2]["token"].tolist() == oracle.logits(token_ids(model)).topk(3).indices.tolist()
    check_gradient(model)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", DIRECT)
def test_a_neurons_contribution_is_what_zeroing_its_direct_path_takes_away(family: Any, name: str, layer: int) -> None:
    model, oracle = family(name)
    ids = token_ids(model)
    result = logit_attribution(model, [TEXT], POSITIVE, NEGATIVE)
    with models_recorded(model, layer) as h:
        inference.forward_batch(model, inference.encode(model, [TEXT]), logits=False)
    for neuron in (3, 17):
        effect = difference(oracle.direct_effect(ids, layer, neuron))
        assert float(result.neurons[0, layer, neuron]) == pytest.approx(effect, rel=1e-3, abs=1e-5)
        # the same from the neuron set's means, with the scales of one answer token
        scales, final = token_scales(model)
        neurons = one_neuron(model, layer, neuron, float(h[0][0, -1, neuron]))
        by_means = direct_logits(model, neurons, scale=final, output_scales=scales)[0]
        assert difference(by_means.double()) == pytest.approx(effect, rel=1e-3, abs=1e-5)


class models_recorded:
    """Record `hook_post` of a layer inside the block."""

    def __init__(self, model: Any, layer: int) -> None:
        self.values: list[Tensor] = []
        self.handle = models.add_hook(
            model, models.hook_name(model, layer, "post"), lambda x, hook=None: self.values.append(x.detach().clone())
        )

    def __enter__(self) -> list[Tensor]:
        return self.values

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


def token_scales(model: Any) -> tuple[tuple[float, ...], float]:
    """Scales of the norms at the last token alone: the text's answer shortened to it."""
    text = TEXT.lead + TEXT.answer
    ids = token_ids(model)
    last = models.tokenizer(model).decode(ids[-1:])
    one = Example(text[: -len(last)], last, separator="")
    (item,) = inference.encode_one(model, [one])
    assert list(item.ids) == ids and len(ids) - item.start == 1
    return output_scales(model, [one]), frozen_scale(model, [one])


def test_neurons_of_different_layers_need_the_scales_of_their_norms(family: Any) -> None:
    for name in ("gemma2", "olmo2"):
        model, _ = family(name)
        assert normalises_outputs(model)
        neurons = one_neuron(model, 0, 3, 1.0)
        with pytest.raises(InputError, match="output_scales") as caught:
            direct_logits(model, neurons)
        assert "\n" not in str(caught.value)
        for wrong in ([1.0], [1.0, 0.0], [1.0, float("nan")]):
            with pytest.raises(InputError, match=r"one positive number|a finite number"):
                direct_logits(model, neurons, output_scales=wrong)
    model, _ = family("cohere")
    assert output_scales(model, []) == (1.0, 1.0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["llama with biases", "gemma2 capped", "granite"])
def test_half_precision_is_not_refused(tmp_path: Path, name: str, dtype: str) -> None:
    model = models.load(save_family(tmp_path, name), dtype=dtype)
    assert logit_attribution(model, [TEXT], POSITIVE, NEGATIVE).error() < 0.05
    pre_activation(model, [TEXT], 1, 3)
    direct_logits(model, one_neuron(model, 0, 3, 1.0), output_scales=output_scales(model, [TEXT]))


def scaled(module: Any, factor: float) -> Any:
    return module.register_forward_hook(
        lambda m, args, out: (out[0] * factor, *out[1:]) if isinstance(out, tuple) else out * factor
    )


def damaged(folder: Path, where: str) -> tuple[Any, Any]:
    """A Llama with an operation that nothing of ours knows."""
    model = models.load(tiny_checkpoint(folder))
    hf = model.original_model.model
    modules = {
        "head": model.original_model.lm_head,
        "block": hf.layers[1],
        "mlp": hf.layers[1].mlp,
        "attention": hf.layers[1].self_attn.o_proj,
    }
    return model, scaled(modules[where], 1.3)


@pytest.mark.parametrize("where", ["head", "block", "mlp", "attention"])
def test_unknown_operations_are_refused_with_their_size(tmp_path: Path, where: str) -> None:
    if not hasattr(models.load(tiny_checkpoint(tmp_path / "m")), "original_model"):
        pytest.skip("HookedTransformer has no transformers modules to put an unknown operation on")
    model, _ = damaged(tmp_path, where)
    calls = {
        "logit_attribution": lambda: logit_attribution(model, [TEXT], POSITIVE, NEGATIVE),
        "direct_logits": lambda: direct_logits(model, one_neuron(model, 1, 3, 1.0)),
        "pre_activation": lambda: pre_activation(model, [TEXT], 2, 3),
        "readout": lambda: readout(model),
        "lens": lambda: lens_tokens(model, TEXT),
    }
    refused: dict[str, str] = {}
    for name, call in calls.items():
        try:
            call()
        except NevaError as error:
            refused[name] = str(error)
    expected = {
        "head": {"logit_attribution", "direct_logits", "readout", "lens"},
        "block": {"logit_attribution", "direct_logits", "pre_activation"},
        "mlp": {"logit_attribution", "direct_logits", "pre_activation"},
        "attention": {"logit_attribution", "pre_activation"},
    }[where]
    assert set(refused) == expected
    for message in refused.values():
        assert "\n" not in message
        assert "by 0." in message


def test_a_hidden_slope_is_refused(tmp_path: Path) -> None:
    model = models.load(tiny_checkpoint(tmp_path, "gpt2"))
    if not hasattr(model, "original_model"):
        pytest.skip("HookedTransformer has no transformers modules to put an unknown operation on")
    block = model.original_model.transformer.h[1]
    block.mlp.register_forward_hook(lambda m, args, out: out.detach())
    with pytest.raises(InputError, match="finite difference"):
        gradient_effects(model, one_neuron(model, 0, 3, 1.0), [TEXT], [10])


def test_checks_run_once_and_not_under_an_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neva_tl.attribution import self_check

    model = models.load(tiny_checkpoint(tmp_path))
    passes: list[int] = []
    plain = self_check._recorded
    monkeypatch.setattr(self_check, "_recorded", lambda m: passes.append(1) or plain(m))
    neurons = one_neuron(model, 1, 3, 1.0)
    with edit(model, Shift(neurons, dose=2.0)):
        direct_logits(model, neurons)
    assert passes == []
    for _ in range(2):
        direct_logits(model, neurons)
        logit_attribution(model, [TEXT], POSITIVE)
    assert passes == [1]
    models.weights_changed(model)
    direct_logits(model, neurons)
    assert len(passes) == 2
    assert np.isfinite(gradient_effects(model, neurons, [TEXT], [10])).all()
