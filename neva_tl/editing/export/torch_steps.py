"""Steps of an edit as plain data and tensors, which `steer.py` runs without neva_tl."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing.base import Edit, NeuronEdit, check_model, column
from neva_tl.editing.constant import Constant
from neva_tl.editing.edits.ablate import Ablate
from neva_tl.editing.edits.clamp import Clamp
from neva_tl.editing.edits.compose import Composed
from neva_tl.editing.edits.context import ContextAware
from neva_tl.editing.edits.gate_shift import GateShift
from neva_tl.editing.edits.paced import Paced
from neva_tl.editing.edits.probe import LayerProbe
from neva_tl.editing.edits.prompt_shift import PromptShift
from neva_tl.editing.edits.rescale import Rescale
from neva_tl.editing.edits.scale import Scale
from neva_tl.editing.edits.shift import Shift
from neva_tl.editing.edits.vector import AddVector, ProbedVector
from neva_tl.editing.export.target import ExportTarget


@dataclass(frozen=True, eq=False)
class ExportStep:
    """One change at one hook point.

    Attributes:
        layer: The layer.
        site: Short name of the hook point.
        kind: Name of the step in `steer.py`.
        tensors: Its tensors.
        numbers: Its numbers.
        prompt: Whether it computes something at the prompt.
        reads: Sites of the layer that it reads.
    """

    layer: int
    site: str
    kind: str
    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, Any] = field(default_factory=dict)
    prompt: bool = False
    reads: tuple[str, ...] = ()


def steps_of(edit: Edit, target: ExportTarget) -> list[ExportStep]:
    """The steps of an edit at its dose, in the order in which they run.

    Args:
        edit: The edit, without `Paced` around it.
        target: The model.

    Raises:
        InputError: The class cannot be exported, or the edit does not fit the model.
    """
    for kind, steps in _STEPS.items():
        if type(edit) is kind:
            return steps(edit, target)
    raise InputError(
        f"{type(edit).__name__} cannot be exported: its change is code of its own; use it with neva_tl.edit or neva_tl.edit_hf"
    )


def _constants(edit: Edit, target: ExportTarget) -> list[ExportStep]:
    out = []
    for change in edit.changes(target.model):
        assert isinstance(change.apply, Constant)
        width = target.info.d_mlp if change.site == "post" else target.info.d_model
        out.append(ExportStep(change.layer, change.site, "add", {"row": change.apply.dense(width)}))
    return out


def _neurons(
    edit: NeuronEdit, target: ExportTarget, kind: str, names: tuple[str, ...], **numbers: Any
) -> list[ExportStep]:
    """Steps with one number per neuron, from `NeuronEdit.per_neuron`."""
    return _by_layer(edit, target, kind, dict(zip(names, edit.per_neuron(edit.chosen()), strict=True)), **numbers)


def _by_layer(
    edit: NeuronEdit, target: ExportTarget, kind: str, columns: Mapping[str, np.ndarray], **numbers: Any
) -> list[ExportStep]:
    check_model(edit.neurons, target.model)
    rows = edit.chosen()
    layer, neuron = (rows[name].to_numpy(dtype=np.int64) for name in ("layer", "neuron"))
    out = []
    for number in np.unique(layer):
        position = np.flatnonzero(layer == number)
        tensors = {"index": torch.from_numpy(neuron[position])}
        tensors |= {name: column(np.asarray(values)[position]) for name, values in columns.items()}
        out.append(ExportStep(int(number), "post", kind, tensors, numbers))
    return out


def _scale(edit: Scale, target: ExportTarget) -> list[ExportStep]:
    return _by_layer(edit, target, "scale", {"factor": np.full(len(edit.chosen()), edit.dose)})


def _ablate(edit: Ablate, target: ExportTarget) -> list[ExportStep]:
    if edit.mode == "zero":
        return _by_layer(edit, target, "replace", {"target": np.zeros(len(edit.chosen()))}, dose=edit.dose)
    if edit.mode != "resample":
        return _neurons(edit, target, "replace", ("target",), dose=edit.dose)
    # draws of a longer text begin with those of a shorter one
    draws = torch.from_numpy(np.random.default_rng(edit.seed).random(max(target.info.n_ctx, 1)))
    return [
        ExportStep(
            step.layer, step.site, "resample", {**step.tensors, "draws": draws}, {"dose": edit.dose}, prompt=True
        )
        for step in _by_layer(edit, target, "resample", {})
    ]


def _probe(probe: LayerProbe, site: str, kind: str, dose: float) -> ExportStep:
    tensors = {
        "index": torch.as_tensor(np.asarray(probe.index, dtype=np.int64)),
        "weight": torch.as_tensor(probe.weight, dtype=torch.float32),
        "unit": torch.as_tensor(probe.unit, dtype=torch.float32),
    }
    bounds = {"lowest": float(probe.lowest), "highest": float(probe.highest)}
    # JSON has no infinity
    finite = {name: bound if math.isfinite(bound) else None for name, bound in bounds.items()}
    numbers = {"dose": dose, "bias": float(probe.bias), **finite}
    return ExportStep(probe.layer, site, kind, tensors, numbers, prompt=kind == "prompt probe")


def _probed(edit: ContextAware | ProbedVector | PromptShift, target: ExportTarget) -> list[ExportStep]:
    edit.changes(target.model)  # checks the model
    site = "post" if isinstance(edit, ContextAware) else "resid_post"
    if isinstance(edit, PromptShift):
        ordered = sorted(edit.probes, key=lambda probe: probe.layer)
        return [_probe(probe, site, "prompt probe", edit.dose) for probe in ordered]
    return [_probe(probe, site, "probe", edit.dose) for probe in edit.probes]


def _gate_shift(edit: GateShift, target: ExportTarget) -> list[ExportStep]:
    edit.changes(target.model)  # checks the model and the site
    gated = edit.neurons.site == "gate"
    activation = _activation(target) if gated else None
    out = []
    for layer in edit.neurons.layers:
        rows = edit.neurons.at(layer)
        raised, silenced = edit._numbers(rows)
        tensors = {"index": torch.tensor(rows["neuron"].tolist()), "up": raised, "down": silenced}
        reads = ("gate", "up") if gated else ()
        out.append(ExportStep(layer, "post", "gate shift", tensors, {"activation": activation}, reads=reads))
    return out


def _activation(target: ExportTarget) -> str:
    """Name of the module that computes the MLP's activation function."""
    function = models.activation(target.model)
    module = getattr(function, "__self__", function)
    mlp = target.location(0, "post")[0].rpartition(".")[0]
    # the function of a plain model belongs to its twin: the module is known by its class
    names = (name for name in target.modules if name.rpartition(".")[0] == mlp)
    name = next((name for name in names if type(target.modules[name]) is type(module)), None)
    if name is None:
        raise InputError(
            f"no module of {target.info.name} computes the MLP's activation function alone: this edit of gates cannot be "
            "exported; use it with neva_tl.edit_hf"
        )
    return name


_STEPS: dict[type[Edit], Callable[[Any, ExportTarget], list[ExportStep]]] = {
    Shift: _constants,
    Composed: _constants,
    AddVector: _constants,
    Scale: _scale,
    Rescale: lambda edit, target: _neurons(edit, target, "scale", ("factor",)),
    Clamp: lambda edit, target: _neurons(edit, target, "clamp", ("level", "up")),
    Ablate: _ablate,
    ContextAware: _probed,
    ProbedVector: _probed,
    PromptShift: _probed,
    GateShift: _gate_shift,
}


def unpaced(edit: Edit) -> tuple[Edit, dict[str, Any] | None]:
    """An edit without its pace, and the pace as plain data.

    Args:
        edit: The edit.
    """
    if type(edit) is not Paced:
        return edit, None
    inner = edit.edit.with_dose(edit.dose).with_scope(edit.scope).with_gate(edit.gate)
    return inner, {"half_life": edit.half_life, "no_repeat": edit.no_repeat}
