"""write_control_vector(): a constant edit as a GGUF control vector, as llama.cpp and repeng read it.

The file has one tensor `direction.N` (float32, `[d_model]`) for each edited layer, N counted from 0 as here. llama.cpp
(`common_control_vector_load` in common/common.cpp, `build_cvec` in each graph) adds it to the residual stream after block N, at
every token, and has no place for layer 0. A step of the neurons adds `step @ W_out` to what the MLP writes, which is the same
residual stream after the block wherever the MLP's output is added as it is. This is measured on the model before a file is
written: a norm after the MLP (Gemma 2 and 3, OLMo 2) breaks it, and such a model is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write
from neva_tl.editing.base import Edit
from neva_tl.editing.constant import Constant
from neva_tl.editing.edits.compose import Composed
from neva_tl.editing.edits.shift import Shift
from neva_tl.editing.edits.vector import AddVector
from neva_tl.editing.export.target import ExportTarget
from neva_tl.models.hf_config import residual_factor, text_config
from neva_tl.models.hooks import temporary_hooks

#: Value of `general.architecture`.
ARCHITECTURE = "controlvector"
#: Largest difference between a direction and what the model's own block adds, relative to the direction's largest number.
_TOLERANCE = 1e-3
#: Tokens of the pass that compares them.
_TOKENS = 6


def write_control_vector(edits: Sequence[Edit], file: Path, target: ExportTarget) -> Path:
    """Write the file.

    Args:
        edits: The edits; their directions are added.
        file: The file, `NAME.gguf`.
        target: The model.

    Raises:
        InputError: An edit is not constant, has a gate or another scope than `all`, edits layer 0, or is not an addition to
            the residual stream after the block in this model; or the file cannot be written.
    """
    vectors = directions(edits, target)
    if file.suffix != ".gguf":
        raise InputError(
            f"a control vector is a GGUF file: write it to {file.with_suffix('.gguf').name}, not {file.name}"
        )
    from gguf import GGUFWriter

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as temporary:
            writer: Any = GGUFWriter(temporary, ARCHITECTURE)
            writer.add_string(f"{ARCHITECTURE}.model_hint", _architecture(target))
            writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(vectors))
            for layer, vector in vectors.items():
                writer.add_tensor(f"direction.{layer}", vector)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
    except OSError as error:
        raise InputError(f"cannot write {file} ({error.strerror}): choose another file") from error
    return file


def directions(edits: Sequence[Edit], target: ExportTarget) -> dict[int, np.ndarray]:
    """Layer -> what the edits add to the residual stream after that block, `[d_model]` in float32.

    Args:
        edits: The edits.
        target: The model.

    Raises:
        InputError: See `write_control_vector`.
    """
    sums: dict[int, np.ndarray] = {}
    steps: dict[int, Tensor] = {}
    for edit in edits:
        _check(edit)
        for change in edit.changes(target.model):
            assert isinstance(change.apply, Constant)
            layer = change.layer
            if change.site == "post":
                step = change.apply.dense(target.info.d_mlp).double()
                added = residual_factor(target.hf.config) * (step @ target.w_out(layer).double().cpu())
                steps[layer] = steps.get(layer, torch.zeros(target.info.d_mlp, dtype=torch.float64)) + step
            else:
                added = change.apply.dense(target.info.d_model).double()
            sums[layer] = sums.get(layer, np.zeros(target.info.d_model)) + added.numpy()
    if 0 in sums:
        raise InputError(
            "the edit changes layer 0, for which llama.cpp has no control vector (its first one is layer 1): edit later "
            "layers only, or bake the edit into a checkpoint"
        )
    _check_blocks(steps, target)
    return {layer: vector.astype(np.float32) for layer, vector in sorted(sums.items())}


def _check(edit: Edit) -> None:
    name = type(edit).__name__
    if type(edit) not in (Shift, Composed, AddVector):
        raise InputError(
            f"{name} depends on the activation, and a control vector is a constant: export it with format='torch', or use "
            "a Shift or an AddVector"
        )
    if edit.gate is not None:
        raise InputError(
            f"this {name} has a gate, and a control vector is added at every token: export it with format='torch'"
        )
    if edit.scope != "all":
        raise InputError(
            f"this {name} has the scope {edit.scope!r}, and a control vector is added at every token: write "
            "edit.with_scope('all'), which also edits the prompt, or export it with format='torch'"
        )


def _architecture(target: ExportTarget) -> str:
    """The hint that repeng writes: transformers' `model_type`."""
    return str(getattr(text_config(target.hf.config), "model_type", "") or target.info.architecture)


def _check_blocks(steps: dict[int, Tensor], target: ExportTarget) -> None:
    """Compare what each block adds under a step of its neurons with the step times its output weights.

    One pass: row i of the batch has the step of the i-th edited layer alone, the last row has none.

    Raises:
        InputError: A block writes something else.
    """
    layers = sorted(steps)
    ids = torch.arange(1, _TOKENS + 1).remainder(target.info.d_vocab).repeat(len(layers) + 1, 1)
    outputs: dict[int, Tensor] = {}
    hf: Any = target.hf

    def stepping(row: int, step: Tensor) -> Any:
        def add(x: Tensor, **_: Any) -> Tensor:
            new = x.clone()
            # some MLPs see all tokens in one dimension
            rows = new.unflatten(0, tuple(ids.shape)) if x.ndim == 2 else new
            rows[row] += step.to(x)
            return new

        return add

    def recording(layer: int) -> Any:
        def record(x: Tensor, **_: Any) -> None:
            outputs[layer] = x.detach()

        return record

    hooks = []
    for row, layer in enumerate(layers):
        hooks.append((models.hook_name(target.model, layer, "post"), stepping(row, steps[layer])))
        hooks.append((models.hook_name(target.model, layer, "resid_post"), recording(layer)))
    with temporary_hooks(target.model, hooks), torch.no_grad():
        hf(ids.to(next(hf.parameters()).device))
    for row, layer in enumerate(layers):
        added = (outputs[layer][row] - outputs[layer][-1]).double().cpu()
        expected = residual_factor(target.hf.config) * (steps[layer] @ target.w_out(layer).double().cpu())
        # rounding of the stream itself, in the model's dtype
        slack = 8 * torch.finfo(outputs[layer].dtype).eps * float(outputs[layer].abs().max())
        if float((added - expected).abs().max()) > _TOLERANCE * float(expected.abs().max()) + slack:
            raise InputError(
                f"block {layer} of {target.info.name} does not add its MLP's output as it is (a norm after the MLP, as in "
                "Gemma 2 and 3): a step of its neurons is not a constant of the residual stream; export it with "
                "format='torch', or steer with an AddVector"
            )
