"""baked_model(): a model of transformers with an edit in its weights; the model it came from stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neva_tl.core.errors import InputError
from neva_tl.editing.bake.extra_layers import layer_tensors, renumbered
from neva_tl.editing.bake.fold import Folded
from neva_tl.editing.bake.places import layer_prefix
from neva_tl.editing.bake.target import Target, empty_model
from neva_tl.models.hf_config import residual_factor
from neva_tl.models.hf_model import stored_transposed


def baked_model(hf: nn.Module, folded: Folded, target: Target, projections: Sequence[str], dtype: torch.dtype) -> Any:
    """The edited model, on the CPU.

    Weights that the edit leaves alone share their storage with the model's where device and dtype are the same.

    Args:
        hf: The model.
        folded: The edit.
        target: Class and config of the result.
        projections: Name of each layer's output projection.
        dtype: Number format of the weights; that of the model keeps the format of each weight. Changed weights are computed in
            float64 and rounded once.

    Raises:
        InputError: A changed weight is shared with another module.
    """
    tensors = {name: tensor.detach().cpu() for name, tensor in hf.state_dict().items()}
    changed: dict[str, Tensor] = {}
    steps: dict[int, Tensor] = {}
    factor = residual_factor(hf.config)
    for layer in sorted({*folded.scale, *folded.pushed}):
        module, name = hf.get_submodule(projections[layer]), projections[layer]
        _refuse_shared(hf, module, name)
        transposed = stored_transposed(module)
        weight = (tensors[f"{name}.weight"].T if transposed else tensors[f"{name}.weight"]).double()
        # a block multiplies what the MLP writes by the factor, and a step of the residual stream is behind it
        step = folded.bias(layer, weight)
        if layer in folded.resid:
            step = step + folded.resid[layer] / factor
        steps[layer] = step * factor
        if layer in folded.scale and bool((folded.scale[layer] != 1).any()):
            new = (weight * folded.scale[layer]).to(tensors[f"{name}.weight"].dtype)
            changed[f"{name}.weight"] = new.T if transposed else new
        if bool(step.any()) and not target.inserted:
            before = tensors.get(f"{name}.bias")
            changed[f"{name}.bias"] = step if before is None else step + before.double()
    new_model: Any = empty_model(target.kind, target.config)
    shapes = new_model.state_dict()
    tensors |= changed
    if target.inserted:
        prefix, _ = layer_prefix(projections[0])
        tensors = renumbered(tensors, prefix, target.inserted)
        tensors |= layer_tensors(hf, shapes, prefix, target.inserted, steps)
    for name, shape in shapes.items():
        if name not in tensors and name.endswith(".bias"):
            tensors[name] = torch.zeros(shape.shape, dtype=dtype)
    if dtype != hf.dtype:
        tensors = {name: x.to(dtype) if x.is_floating_point() else x for name, x in tensors.items()}
    cast = {name: (x.to(dtype) if x.dtype == torch.float64 else x).contiguous() for name, x in tensors.items()}
    new_model.load_state_dict(cast, strict=True, assign=True)
    new_model.tie_weights()
    if getattr(hf, "generation_config", None) is not None:
        new_model.generation_config = hf.generation_config
    return new_model.eval()


def _refuse_shared(hf: nn.Module, module: nn.Module, name: str) -> None:
    """Refuse a weight that another module uses too: the edit would act there as well."""
    weight = getattr(module, "weight")  # noqa: B009 (a submodule's attribute has no type)
    for other, parameter in hf.named_parameters(remove_duplicate=False):
        if parameter is weight and other != f"{name}.weight":
            raise InputError(
                f"{name} shares its weight with {other.removesuffix('.weight')}, which the edit would change too: use "
                "nv.attach(model, edit), or an exported file"
            )
