"""export_edit(format="gguf"): the file, and the residual stream of the unedited model plus its directions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from gguf import GGUFReader
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from helpers.llama_cpp import last_logits, library, write_gguf
from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing import (
    AddVector,
    Clamp,
    Edit,
    RelevanceGate,
    Scale,
    Shift,
    compose,
    edit_hf,
    export_edit,
    paced,
)

AT = [(1, 7), (2, 40), (2, 11)]
IDS = torch.tensor([[5, 60, 70, 80, 90, 9], [8, 7, 6, 100, 101, 102]])
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 320,
}


def read(file: Path) -> dict[int, np.ndarray]:
    """Layer -> direction, by gguf."""
    return {int(tensor.name.removeprefix("direction.")): np.array(tensor.data) for tensor in GGUFReader(file).tensors}


def blocks(hf: Any) -> Any:
    if hasattr(hf, "gpt_neox"):
        return hf.gpt_neox.layers
    return hf.model.layers if hasattr(hf, "model") else hf.transformer.h


def residual(hf: Any, directions: dict[int, np.ndarray] | None = None) -> list[Tensor]:
    """The residual stream after each block, with directions added there by raw hooks."""
    out: dict[int, Tensor] = {}
    handles = []

    def hook(layer: int) -> Callable[..., Any]:
        def run(_module: nn.Module, _args: Any, output: Any) -> Any:
            x = output[0] if isinstance(output, tuple) else output
            if directions and layer in directions:
                x = x + torch.from_numpy(directions[layer])
            out[layer] = x
            return (x, *output[1:]) if isinstance(output, tuple) else x

        return run

    for layer, block in enumerate(blocks(hf)):
        handles.append(block.register_forward_hook(hook(layer)))
    with torch.no_grad():
        hf(IDS)
    for handle in handles:
        handle.remove()
    return [out[layer] for layer in range(len(out))]


def check(hf: Any, edits: list[Edit], file: Path) -> dict[int, np.ndarray]:
    """The residual stream under the edits equals the unedited model's with the directions; returns the directions."""
    directions = read(export_edit(edits, file, model=hf, format="gguf"))
    with edit_hf(hf, edits):
        expected = residual(hf)
    result, unedited = residual(hf, directions), residual(hf)
    for layer, (a, b) in enumerate(zip(result, expected, strict=True)):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        assert torch.equal(b, unedited[layer]) == (layer < min(directions)), "the edit must change later blocks"
    return directions


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_residual_stream_is_that_of_the_edited_model(
    folders: dict[str, Path], loaded: dict[str, Any], make_set: Any, tmp_path: Path, family: str
) -> None:
    hf = AutoModelForCausalLM.from_pretrained(folders[family], dtype=torch.float32).eval()
    neurons = make_set(loaded[family], AT, plus=[1.5, -0.5, 2.0])
    shift = Shift(neurons, dose=3.0)
    check(hf, [shift], tmp_path / "shift.gguf")
    vector = np.random.default_rng(0).normal(size=models.info(loaded[family]).d_model)
    both = [compose([shift, shift.with_dose(-1.0)]), AddVector({1: vector}, dose=2.0)]
    directions = check(hf, both, tmp_path / "both.gguf")
    assert sorted(directions) == [1, 2] and all(vector.dtype == np.float32 for vector in directions.values())
    same = read(export_edit(both, tmp_path / "tl.gguf", model=loaded[family], format="gguf"))
    for layer, direction in same.items():
        np.testing.assert_allclose(direction, directions[layer], atol=1e-6)


def test_the_header_is_what_llama_cpp_and_repeng_read(loaded: dict[str, Any], make_set: Any, tmp_path: Path) -> None:
    file = export_edit(Shift(make_set(loaded["llama"], AT)), tmp_path / "x.gguf", model=loaded["llama"], format="gguf")
    reader = GGUFReader(file)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert fields["general.architecture"] == "controlvector"
    assert fields["controlvector.model_hint"] == "llama" and fields["controlvector.layer_count"] == 2
    assert [(tensor.name, tensor.tensor_type.name, list(tensor.shape)) for tensor in reader.tensors] == [
        ("direction.1", "F32", [32]),
        ("direction.2", "F32", [32]),
    ]


def made(config: Any) -> Any:
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def neurons_of(hf: Any, make_set: Any) -> Any:
    facts = models.plain(hf)
    return make_set(facts, AT, fingerprint=models.fingerprint(facts))


def test_parallel_blocks_and_scaled_outputs(make_set: Any, tmp_path: Path) -> None:
    for config in (
        transformers.GPTNeoXConfig(**SIZES, use_parallel_residual=True),
        transformers.GraniteConfig(**SIZES, num_key_value_heads=2, residual_multiplier=0.5),
    ):
        hf = made(config)
        check(hf, [Shift(neurons_of(hf, make_set), dose=3.0)], tmp_path / "x.gguf")


def test_a_norm_after_the_mlp_is_refused_and_a_vector_is_not(make_set: Any, tmp_path: Path) -> None:
    hf = made(transformers.Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8))
    with torch.no_grad():
        for block in hf.model.layers:  # random weights of Gemma norm to 1
            block.post_feedforward_layernorm.weight.add_(0.5)
    with pytest.raises(InputError, match="a norm after the MLP"):
        export_edit(Shift(neurons_of(hf, make_set)), tmp_path / "x.gguf", model=hf, format="gguf")
    assert not list(tmp_path.iterdir())
    check(hf, [AddVector({1: np.random.default_rng(0).normal(size=32)})], tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda shift, neurons: shift.with_scope("generated"), "scope 'generated'.*at every token"),
        (lambda shift, neurons: shift.with_gate(gate()), "has a gate"),
        (lambda shift, neurons: Clamp(neurons), "Clamp depends on the activation"),
        (lambda shift, neurons: Scale(neurons), "Scale depends on the activation"),
        (lambda shift, neurons: paced(shift, half_life=3.0), "Paced depends on the activation"),
        (lambda shift, neurons: AddVector({0: np.ones(32)}), "changes layer 0"),
    ],
)
def test_other_edits_are_refused_in_one_line(
    loaded: dict[str, Any], make_set: Any, tmp_path: Path, edit: Callable[..., Edit], message: str
) -> None:
    neurons = make_set(loaded["llama"], AT)
    with pytest.raises(InputError, match=message) as caught:
        export_edit(edit(Shift(neurons), neurons), tmp_path / "x.gguf", model=loaded["llama"], format="gguf")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def gate() -> RelevanceGate:
    return RelevanceGate((0, 1, 2), np.ones((3, 48)), np.zeros(3), np.ones(3), np.ones(3))


def test_another_suffix_is_refused(loaded: dict[str, Any], make_set: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"write it to x\.gguf"):
        export_edit(Shift(make_set(loaded["llama"], AT)), tmp_path / "x.bin", model=loaded["llama"], format="gguf")


def test_llama_cpp_computes_the_edited_model(
    folders: dict[str, Path], loaded: dict[str, Any], make_set: Any, tmp_path: Path
) -> None:
    """llama.cpp itself, with float32 weights and cache."""
    library()
    hf = AutoModelForCausalLM.from_pretrained(folders["llama"], dtype=torch.float32).eval()
    model = write_gguf(hf, tmp_path / "model.gguf")
    item = Shift(make_set(loaded["llama"], AT), dose=3.0)
    directions = read(export_edit(item, tmp_path / "x.gguf", model=hf, format="gguf"))
    with torch.no_grad():
        unedited = hf(IDS).logits[:, -1].numpy()
        with edit_hf(hf, item):
            edited = hf(IDS).logits[:, -1].numpy()
    np.testing.assert_allclose(last_logits(model, IDS.tolist()), unedited, atol=2e-5)
    np.testing.assert_allclose(last_logits(model, IDS.tolist(), directions), edited, atol=2e-5)
    assert np.abs(edited - unedited).max() > 0.1
