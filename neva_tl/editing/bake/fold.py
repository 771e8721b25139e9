"""fold(): edits as constants per layer, `h_k -> scale_k * h_k + shift_k` and a step of the residual stream.

Only edits that are such constants can become weights: every token, no gate, no bound. Edits act in the order given:

    scale <- a * scale,    shift <- a * shift + b        for an edit h -> a * h + b of the same neuron

so that a shift before a scaling is scaled as well, and one after it is not. The steps of the residual stream add up, since they
act after every neuron of their layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.editing.base import Edit, NeuronEdit
from neva_tl.editing.edits.ablate import Ablate
from neva_tl.editing.edits.compose import Composed
from neva_tl.editing.edits.paced import Paced
from neva_tl.editing.edits.rescale import Rescale
from neva_tl.editing.edits.scale import Scale
from neva_tl.editing.edits.shift import Shift
from neva_tl.editing.edits.vector import AddVector

#: Factor and step of each edited neuron.
Affine = tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]


@dataclass(frozen=True, eq=False)
class Folded:
    """Edits as constants, in float64.

    Attributes:
        scale: Layer -> factor of each neuron `[d_mlp]`.
        shift: Layer -> step of each neuron `[d_mlp]`, after the factor; of the same layers.
        resid: Layer -> step of the residual stream after the layer `[d_model]`.
    """

    scale: dict[int, Float[Tensor, " d_mlp"]] = field(default_factory=dict)
    shift: dict[int, Float[Tensor, " d_mlp"]] = field(default_factory=dict)
    resid: dict[int, Float[Tensor, " d_model"]] = field(default_factory=dict)

    __repr__ = brief

    @property
    def shifted(self) -> tuple[int, ...]:
        """Layers with a step of neurons, which needs a bias of the MLP's output projection."""
        return tuple(sorted(layer for layer, step in self.shift.items() if bool(step.any())))

    @property
    def pushed(self) -> tuple[int, ...]:
        """Layers with a step of the residual stream."""
        return tuple(sorted(layer for layer, step in self.resid.items() if bool(step.any())))

    def bias(self, layer: int, w_out: Float[Tensor, "d_model d_mlp"]) -> Float[Tensor, " d_model"]:
        """What the neurons' steps of a layer add to the MLP's output, `W_out @ shift`.

        Args:
            layer: The layer.
            w_out: Its unedited output projection.
        """
        step = self.shift.get(layer)
        weight = w_out.double()
        return torch.zeros(len(weight), dtype=torch.float64) if step is None else weight @ step


def obstacle(edit: Edit) -> str:
    """Say why weights cannot hold an edit; empty where they can.

    Args:
        edit: The edit.
    """
    name = type(edit).__name__
    if isinstance(edit, Paced):
        return "the step of Paced changes over the generated tokens, and weights act on all tokens alike (.edit has a full step)"
    if type(edit).rewrite is not Edit.rewrite:
        return f"{name} works through the prompt's text, which weights never see"
    if type(edit) not in _RULES:
        return (
            f"{name} is not a constant per neuron: its step depends on the token, and weights act on all tokens alike"
        )
    if isinstance(edit, Ablate) and edit.mode == "resample":
        return "Ablate with mode='resample' takes activations of other tokens, which weights cannot"
    if edit.gate is not None:
        return f"the gate of this {name} opens for some tokens only, and weights act on all tokens alike"
    if edit.scope != "all":
        return f"this {name} has scope {edit.scope!r}, and weights act on all tokens alike"
    return ""


def fold(edits: Sequence[Edit], model: models.EditableModel) -> Folded:
    """Reduce edits to constants.

    Args:
        edits: The edits, in the order in which they act.
        model: The model, whose sizes and fingerprint the edits must fit.

    Raises:
        InputError: An edit is not a constant, or does not fit the model.
    """
    info = models.info(model)
    folded = Folded()
    for item in edits:
        if reason := obstacle(item):
            raise InputError(reason)
        item.changes(model)  # checks sizes and fingerprint
        if isinstance(item, AddVector) and item.site == "resid_post":
            for layer, vector in item.vectors.items():
                push = torch.as_tensor(np.asarray(vector, dtype=np.float64) * item.dose)
                folded.resid[layer] = folded.resid.get(layer, torch.zeros(info.d_model, dtype=torch.float64)) + push
            continue
        for layer, index, (factor, step) in _neurons(item):
            scale = folded.scale.setdefault(layer, torch.ones(info.d_mlp, dtype=torch.float64))
            shift = folded.shift.setdefault(layer, torch.zeros(info.d_mlp, dtype=torch.float64))
            a, b = torch.from_numpy(factor), torch.from_numpy(step)
            scale[index] *= a
            shift[index] = a * shift[index] + b
    return folded


def _neurons(item: Edit) -> list[tuple[int, Tensor, Affine]]:
    """Layer, neurons of the layer, and their factors and steps."""
    if isinstance(item, AddVector):
        return [
            (layer, torch.arange(len(vector)), (np.ones(len(vector)), item.dose * np.asarray(vector, dtype=np.float64)))
            for layer, vector in sorted(item.vectors.items())
        ]
    if isinstance(item, Composed):
        steps = item.steps()
        layer, neuron = np.array(list(steps), dtype=np.int64).T
        affine = np.ones(len(steps)), item.dose * np.array(list(steps.values()), dtype=np.float64)
    else:
        assert isinstance(item, NeuronEdit)
        rows = item.chosen()
        layer, neuron = (rows[name].to_numpy(dtype=np.int64) for name in ("layer", "neuron"))
        affine = _RULES[type(item)](item, item.per_neuron(rows), np.ones(len(rows)))
    out = []
    for number in np.unique(layer):
        position = np.flatnonzero(layer == number)
        out.append((int(number), torch.from_numpy(neuron[position]), (affine[0][position], affine[1][position])))
    return out


def _shift(item: Any, numbers: tuple[np.ndarray, ...], one: np.ndarray) -> Affine:
    return one, item.dose * numbers[0]


def _scale(item: Any, numbers: tuple[np.ndarray, ...], one: np.ndarray) -> Affine:
    del numbers
    return item.dose * one, 0 * one


def _rescale(item: Any, numbers: tuple[np.ndarray, ...], one: np.ndarray) -> Affine:
    del item
    return numbers[0].astype(np.float64), 0 * one


def _ablate(item: Any, numbers: tuple[np.ndarray, ...], one: np.ndarray) -> Affine:
    target = numbers[0] if numbers else 0 * one
    return (1 - item.dose) * one, item.dose * target


def _never(item: Any, numbers: tuple[np.ndarray, ...], one: np.ndarray) -> Affine:
    raise NotImplementedError(type(item).__name__)


#: Edits that are constants, by their exact class (a user's subclass may compute anything), with the factor and step of neurons.
_RULES: dict[type, Callable[[Any, tuple[np.ndarray, ...], np.ndarray], Affine]] = {
    Ablate: _ablate,
    AddVector: _never,
    Composed: _never,
    Rescale: _rescale,
    Scale: _scale,
    Shift: _shift,
}
