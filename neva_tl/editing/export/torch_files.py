"""write_torch(): an edit as a Python file and its tensors, which need torch, safetensors and transformers alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as tensor_bytes
from torch import Tensor

import neva_tl
from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write, writing_into
from neva_tl.editing.base import Edit
from neva_tl.editing.export.target import ExportTarget
from neva_tl.editing.export.torch_steps import ExportStep, steps_of, unpaced
from neva_tl.editing.gate import RelevanceGate

SCHEMA = 1
CODE, TENSORS = "steer.py", "steer.safetensors"
#: Corner of each edited layer's output weights that is stored, so that another model is refused.
_CHECKED = (4, 16)


def write_torch(edits: Sequence[Edit], folder: Path, target: ExportTarget) -> Path:
    """Write `steer.py` and `steer.safetensors` into a folder.

    Args:
        edits: The edits, in the order in which they act.
        folder: The folder; created when missing.
        target: The model.

    Raises:
        InputError: An edit cannot be exported, or the folder cannot be written.
    """
    about, tensors = describe(edits, target)
    content = tensor_bytes(tensors, metadata={"steer": json.dumps(about, allow_nan=False)})
    code = Path(__file__).with_name(CODE).read_text(encoding="utf-8")
    with writing_into(folder, "the export"):
        with atomic_write(folder / TENSORS) as file:
            file.write_bytes(content)
        with atomic_write(folder / CODE) as file:
            file.write_text(code, encoding="utf-8")
    return folder


def describe(edits: Sequence[Edit], target: ExportTarget) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Plain data and tensors of an export.

    Args:
        edits: The edits.
        target: The model.

    Raises:
        InputError: An edit cannot be exported.
    """
    tensors: dict[str, Tensor] = {}
    steps: list[dict[str, Any]] = []
    gates: list[RelevanceGate] = []
    points: dict[tuple[str, str], dict[str, Any]] = {}
    pending: list[tuple[dict[str, Any], int]] = []

    def point(layer: int, site: str) -> dict[str, Any]:
        module, side = target.location(layer, site)
        entry = {"module": module, "side": side, "layer": layer, "record": "", "gates": [], "steps": []}
        return points.setdefault((module, side), entry)

    for owner, edit in enumerate(edits):
        inner, pace = unpaced(edit)
        exported = steps_of(inner, target)
        first = min(range(len(exported)), key=lambda i: exported[i].layer, default=0)
        gate = None if edit.gate is None else _number_of(edit.gate, gates)
        for position, step in enumerate(exported):
            for site in step.reads:
                point(step.layer, site)["record"] = site
            if gate is not None:
                _check_gate(gates[gate], step)
                entry = point(step.layer, "post")
                if gate not in entry["gates"]:
                    entry["gates"].append(gate)
            number = len(steps)
            names = {name: f"{number}.{name}" for name in step.tensors}
            tensors |= {f"{number}.{name}": tensor.contiguous().clone() for name, tensor in step.tensors.items()}
            query = edit.gate is not None and edit.gate.unit == "query"
            steps.append(
                {
                    "edit": owner,
                    "layer": step.layer,
                    "kind": step.kind,
                    "scope": edit.scope,
                    "gate": gate,
                    "pace": None if pace is None else pace | {"first": position == first},
                    "informed": step.prompt or bool(step.reads) or pace is not None,
                    "prompt": step.prompt or pace is not None or query,
                    "tensors": names,
                    **step.numbers,
                }
            )
            pending.append((point(step.layer, step.site), number))
    for entry, number in pending:
        entry["steps"].append(number)
    for number, gate_of in enumerate(gates):
        tensors |= {
            f"gate.{number}.{layer}": torch.as_tensor(gate_of.weight[row], dtype=torch.float32).contiguous()
            for row, layer in enumerate(gate_of.layers)
        }
    checked = _checked(target, sorted({step["layer"] for step in steps}))
    tensors |= {
        f"check.{name}": weight[: _CHECKED[0], : _CHECKED[1]].detach().float().cpu().clone().contiguous()
        for name, weight in checked.items()
    }
    paces = [unpaced(edit)[1] for edit in edits]
    about = {
        "kind": "steer",
        "schema": SCHEMA,
        "neva_tl": neva_tl.__version__,
        "model": target.info.name,
        "what": "; then ".join(edit.what() for edit in edits),
        "edits": [
            {"class": type(e).__name__, "dose": e.dose, "scope": e.scope, "gated": e.gate is not None} for e in edits
        ],
        "modules": sorted({module for module, _ in points} | {s["activation"] for s in steps if s.get("activation")}),
        "checked": {name: list(weight.shape) for name, weight in checked.items()},
        "no_repeat": any(pace is not None and pace["no_repeat"] is not None for pace in paces),
        "gates": [_gate(item) for item in gates],
        "steps": steps,
        "points": list(points.values()),
    }
    return about, tensors


def _checked(target: ExportTarget, layers: Sequence[int]) -> dict[str, Tensor]:
    """The output weights of some layers by the names of their modules, as far as they are plain matrices."""
    out = {}
    for layer in layers:
        try:
            target.w_out(layer)
        except InputError:
            continue
        name, _ = target.location(layer, "post")
        weight = target.modules[name].weight
        assert isinstance(weight, Tensor)
        out[name] = weight
    return out


def _number_of(gate: RelevanceGate, gates: list[RelevanceGate]) -> int:
    """Index of a gate in the list, which it joins once."""
    for number, item in enumerate(gates):
        if item is gate:
            return number
    gates.append(gate)
    return len(gates) - 1


def _check_gate(gate: RelevanceGate, step: ExportStep) -> None:
    if step.layer not in gate.layers:
        raise InputError(
            f"the gate has probes at layers {list(gate.layers)} and the edit changes layer {step.layer}: fit the gate on it"
        )


def _gate(gate: RelevanceGate) -> dict[str, Any]:
    odds = float(np.log(gate.threshold / (1 - gate.threshold)))
    limits = {str(layer): odds - float(gate.bias[row]) for row, layer in enumerate(gate.layers)}
    return {"unit": gate.unit, "limits": limits}
