"""The activation function, its module, and the fused kernel, against transformers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.activations import ACT2FN, FastGELUActivation, GELUTanh, NewGELUActivation

import neva_tl as nv
from neva_tl import models
from neva_tl.models import loading
from neva_tl.models.activation_function import fuse
from neva_tl.models.tiny import tiny_checkpoint

pytestmark = pytest.mark.core
on_bridge = pytest.mark.skipif(
    loading._hooked_class() is not None,
    reason="HookedTransformer has activation functions of its own",
)


@pytest.mark.parametrize("name", ["gelu_new", "gelu_fast"])
def test_fused_is_the_same_function(name: str) -> None:
    holder = nn.ModuleDict({"act": ACT2FN[name], "other": nn.SiLU()})
    assert isinstance(holder["act"], NewGELUActivation | FastGELUActivation)
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    want = 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
    fuse(holder)
    assert isinstance(holder["act"], GELUTanh)
    assert isinstance(holder["other"], nn.SiLU)
    torch.testing.assert_close(holder["act"](x), want, rtol=0, atol=1e-12)


@on_bridge
def test_loaded_models_compute_it_by_one_kernel(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path, "gpt2")
    model = nv.load(folder)
    kinds = {type(module) for module in model.modules()}
    assert GELUTanh in kinds and NewGELUActivation not in kinds
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = torch.tensor([[5, 60, 200, 7]])
    with torch.no_grad():
        want = hf(tokens).logits
    torch.testing.assert_close(models.forward(model, tokens, torch.ones_like(tokens, dtype=torch.bool)), want)


@on_bridge
def test_gate_modules_are_the_layers_own(tmp_path: Path) -> None:
    model = nv.load(tiny_checkpoint(tmp_path, "llama"))
    layers = range(models.info(model).n_layers)
    modules = models.gate_modules(model)
    assert list(modules) == list(layers) and len(set(map(id, modules.values()))) == len(modules)
    tokens = torch.tensor([[5, 60, 200, 7]])
    pre: dict[int, Any] = {}
    out: dict[int, Any] = {}
    handles: list[Any] = []
    for layer, module in modules.items():
        handles.append(module.register_forward_hook(lambda m, a, y, layer=layer: out.update({layer: y})))
        name = models.hook_name(model, layer, "gate")
        handles.append(models.add_hook(model, name, lambda x, hook=None, layer=layer: pre.update({layer: x})))
    models.forward(model, tokens, torch.ones_like(tokens, dtype=torch.bool), logits=False)
    seen = dict(out)
    for layer in layers:
        torch.testing.assert_close(seen[layer], torch.nn.functional.silu(pre[layer]))
    # the function itself is not heard by hooks on the module
    models.activation(model)(pre[0])
    for handle in handles:
        handle.remove()
    assert out[0] is seen[0]


@on_bridge
def test_no_gate_module_where_none_can_be_heard(tmp_path: Path) -> None:
    plain = nv.load(tiny_checkpoint(tmp_path / "a", "gpt2"))
    assert models.gate_modules(plain) == {}
    model = nv.load(tiny_checkpoint(tmp_path / "b", "llama"))
    one = model.blocks[0].mlp.original_component.act_fn
    for block in model.blocks:
        block.mlp.original_component.act_fn = one  # shared: its output says no layer
    assert models.gate_modules(model) == {}
