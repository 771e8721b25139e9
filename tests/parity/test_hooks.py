"""Activations at our hook points equal raw PyTorch hooks on the plain transformers model (TransformerLens not involved)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from neva_tl import models
from neva_tl.models import gguf, inference, short_names
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

TEXTS = (
    "Once upon a time there was a girl.",
    "The dog ran to the park and then it ran all the way home again because it was hungry",
    "Tom",
    "They share their bread with strangers; nobody keeps more than they need.",
)


@contextmanager
def raw_activations(hf: Any) -> Iterator[dict[str, list[Tensor]]]:
    """Per block: the down-projection's input, the gate's activation where there is one, residual before and after."""
    blocks = hf.model.layers if hasattr(hf, "model") else hf.transformer.h
    seen: dict[str, list[Tensor]] = {"post": [], "gate": [], "resid_pre": [], "resid_post": []}

    def first(x: Any) -> Tensor:
        return x[0] if isinstance(x, tuple) else x

    handles = []
    for block in blocks:
        down = block.mlp.down_proj if hasattr(block.mlp, "down_proj") else block.mlp.c_proj
        handles.append(down.register_forward_pre_hook(lambda m, a: seen["post"].append(a[0])))
        if hasattr(block.mlp, "gate_proj"):
            handles.append(block.mlp.act_fn.register_forward_hook(lambda m, a, out: seen["gate"].append(out)))
        handles.append(block.register_forward_pre_hook(lambda m, a: seen["resid_pre"].append(a[0])))
        handles.append(block.register_forward_hook(lambda m, a, out: seen["resid_post"].append(first(out))))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def ours(model: Any, batch: inference.Batch) -> tuple[dict[str, list[Tensor]], Tensor]:
    """The same four quantities through our hook points, and the logits."""
    info = models.info(model)
    act = models.activation(model)
    seen: dict[str, list[Tensor]] = {"post": [], "gate": [], "resid_pre": [], "resid_post": []}
    handles = []
    for layer in range(info.n_layers):
        for site in seen:
            if site == "gate" and not info.gated:
                continue
            name = models.hook_name(model, layer, site)
            handles.append(
                models.add_hook(
                    model, name, lambda x, hook=None, site=site: seen[site].append(act(x) if site == "gate" else x)
                )
            )
    try:
        logits = inference.forward_batch(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    assert logits is not None
    return seen, logits


def check(folder: Path, model: Any, padding_side: str, rows: int) -> None:
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    examples = [Example("", TEXTS[i % len(TEXTS)]) for i in range(rows)]
    encoded = inference.encode_one(model, examples, chat=False)
    got, logits = ours(model, inference.encode(model, examples, chat=False, padding_side=padding_side))
    with raw_activations(hf) as want, torch.no_grad():
        # the oracle never pads: one text at a time
        for row, item in enumerate(encoded):
            for part in want.values():
                part.clear()
            out = hf(torch.tensor([item.ids])).logits[0]
            place = slice(-len(item.ids), None) if padding_side == "left" else slice(0, len(item.ids))
            for site, layers in want.items():
                assert len(layers) == len(got[site])
                for theirs, mine in zip(layers, got[site], strict=True):
                    scale = max(1.0, float(theirs.abs().max()))
                    assert float((theirs[0] - mine[row, place]).abs().max()) <= 1e-5 * scale, site
            assert torch.allclose(logits[row, place], out, atol=1e-4 * max(1.0, float(out.abs().max())))


@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_random_models(tmp_path: Path, family: Any, padding_side: str, rows: int) -> None:
    folder = tiny_checkpoint(tmp_path / family, family)
    check(folder, models.load(folder), padding_side, rows)


@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("name", ["stories3M", "stories260K"])
def test_stories(shared_dir: Path, name: str, padding_side: str, rows: int) -> None:
    folder = shared_dir / "models" / name
    check(folder, models.load(folder), padding_side, rows)


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_demo(demo: Any, padding_side: str) -> None:
    from neva_tl.demo import path

    check(path(), demo, padding_side, 16)


@pytest.mark.smollm2
@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_smollm2(smollm2: Any, padding_side: str) -> None:

    check(gguf.from_gguf(short_names.gguf_path(short_names.SHORT_NAMES["smollm2"])), smollm2, padding_side, 4)


def test_editing_a_neuron_is_editing_its_column(tmp_path: Path) -> None:
    """Ablating neuron j at `hook_post` equals zeroing column j of the down-projection of the plain model."""
    folder = tiny_checkpoint(tmp_path / "m")
    model, hf = models.load(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    layer, neuron = 1, 7
    batch = inference.encode(model, [Example("", text) for text in TEXTS[:1]])

    def ablate(x: Tensor, hook: Any = None) -> Tensor:
        return x * (torch.arange(x.shape[-1]) != neuron)

    handle = models.add_hook(model, models.hook_name(model, layer, "post"), ablate)
    edited = inference.forward_batch(model, batch)
    handle.remove()
    plain = inference.forward_batch(model, batch)
    with torch.no_grad():
        unedited = hf(batch.tokens).logits
        hf.model.layers[layer].mlp.down_proj.weight[:, neuron] = 0
        want = hf(batch.tokens).logits
    assert edited is not None and plain is not None
    assert torch.allclose(edited, want, atol=1e-4) and torch.allclose(plain, unedited, atol=1e-4)
    assert not torch.allclose(edited, plain, atol=1e-3)
