"""Edits equal changes of the plain transformers model's own weights (TransformerLens not involved)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from neva_tl import models
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Ablate, Scale, Shift, edit
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

TEXT = "Once upon a time the old king shared his bread with strangers."


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def down(hf: Any, layer: int) -> Any:
    return hf.model.layers[layer].mlp.down_proj if hasattr(hf, "model") else hf.transformer.h[layer].mlp.c_proj


def scale_columns(hf: Any, at: list[tuple[int, int]], factor: float) -> None:
    with torch.no_grad():
        for layer, neuron in at:
            weight = down(hf, layer).weight
            # Linear keeps [out, in]; GPT-2's Conv1D keeps [in, out]
            (weight[:, neuron] if hasattr(hf, "model") else weight[neuron]).mul_(factor)


def add_constants(hf: Any, at: list[tuple[int, int]], step: float) -> None:
    for layer, neuron in at:

        def hook(module: Any, args: tuple[Tensor, ...], neuron: int = neuron) -> tuple[Tensor]:
            x = args[0].clone()
            x[..., neuron] += step
            return (x,)

        down(hf, layer).register_forward_pre_hook(hook)


def neuron_set(model: Any, at: list[tuple[int, int]]) -> NeuronSet:
    info = models.info(model)
    df = pd.DataFrame(at, columns=["layer", "neuron"]).assign(mean_plus=2.0, mean_minus=0.5, sd=1.0, score=1.0)
    return NeuronSet(
        "power", "test", df, n_layers=info.n_layers, d_mlp=info.d_mlp, fingerprint=models.fingerprint(model)
    )


def check(folder: Path, model: Any) -> None:
    info = models.info(model)
    at = [(0, 3), (info.n_layers - 1, info.d_mlp - 1), (1, 5), (1, 6)]
    neurons = neuron_set(model, at)
    batch = inference.encode(model, [Example("", TEXT)], chat=False)
    cases: list[tuple[Any, Any]] = [
        (Ablate(neurons), lambda hf: scale_columns(hf, at, 0.0)),
        (Scale(neurons, dose=3.0), lambda hf: scale_columns(hf, at, 3.0)),
        (Shift(neurons, dose=2.0), lambda hf: add_constants(hf, at, 2.0 * 1.5)),
        (Shift(neurons, dose=-1.0), lambda hf: add_constants(hf, at, -1.5)),
    ]
    with torch.no_grad():
        unedited = plain(folder)(batch.tokens).logits
    for item, change in cases:
        with edit(model, item) as session:
            got = inference.forward_batch(model, batch, session=session)
        assert got is not None
        hf = plain(folder)
        change(hf)
        with torch.no_grad():
            want = hf(batch.tokens).logits
        assert float((want - unedited).abs().max()) > 1e-4, "the oracle itself must move"
        difference = torch.log_softmax(got, -1) - torch.log_softmax(want, -1)
        assert float(difference.abs().max()) < 1e-4 * max(1.0, float(want.abs().max())), item
    after = inference.forward_batch(model, batch)
    torch.testing.assert_close(after, unedited, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_random_models(tmp_path: Path, family: Any) -> None:
    folder = tiny_checkpoint(tmp_path / family, family)
    check(folder, models.load(folder))


@pytest.mark.parametrize("name", ["stories3M", "stories260K"])
def test_stories(shared_dir: Path, name: str) -> None:
    folder = shared_dir / "models" / name
    check(folder, models.load(folder))


def test_demo() -> None:
    from neva_tl import demo

    if not (demo.path() / "model.safetensors").is_file():
        pytest.skip("the demo model has not been trained yet")
    check(demo.path(), models.load("demo"))
