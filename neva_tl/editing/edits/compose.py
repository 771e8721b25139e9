"""compose(): shifts towards several values as one edit, with an explicit rule for the neurons they share (ours).

Separate edits (`edit(model, a, b)`) act one after the other: for shifts that is the rule `sum`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.editing.base import Change, Edit, check_model
from neva_tl.editing.constant import Constant
from neva_tl.editing.edits.shift import Shift
from neva_tl.models import EditableModel

Shared = Literal["sum", "mean", "strongest", "refuse"]


@dataclass(frozen=True, eq=False)
class Composed(Edit):
    """Several shifts as one: `h_k += dose * step_k`, where the rule combines the shifts' `dose * contrast` to step_k.

    The dose scales the sum (1: the shifts at their doses; negative: all reversed).

    Attributes:
        parts: The shifts.
        shared: Rule for a neuron that several shifts move (see `compose`).

    Example:
        >>> power = nv.select(stats, "power", k=20)
        >>> both = nv.editing.compose([nv.Shift(neurons, dose=2.0), nv.Shift(power, dose=2.0)])
        >>> len(both.steps()) <= len(neurons) + len(power)
        True
    """

    parts: tuple[Shift, ...]
    shared: Shared = "sum"

    def what(self) -> str:
        """See `Edit.what`."""
        return f"adds the steps of {len(self.parts)} shifts; neurons that several move take the rule {self.shared}"

    def steps(self) -> dict[tuple[int, int], float]:
        """(layer, neuron) -> step at dose 1, in activation units; independent of the order of the shifts."""
        steps_of: dict[tuple[int, int], list[float]] = {}
        for shift in self.parts:
            rows = shift.chosen()
            for layer, neuron, step in zip(rows["layer"], rows["neuron"], shift.step(rows) * shift.dose, strict=True):
                steps_of.setdefault((int(layer), int(neuron)), []).append(float(step))
        return {neuron: _merged(steps, self.shared) for neuron, steps in sorted(steps_of.items())}

    def changes(self, model: EditableModel) -> tuple[Change, ...]:
        """One change per layer.

        Args:
            model: A TransformerLens model.

        Raises:
            InputError: The neurons of a shift were selected on another model.
        """
        for shift in self.parts:
            check_model(shift.neurons, model)
        by_layer: dict[int, dict[int, float]] = {}
        for (layer, neuron), step in self.steps().items():
            by_layer.setdefault(layer, {})[neuron] = self.dose * step
        return tuple(Change(layer, "post", _adder(steps)) for layer, steps in by_layer.items())


@check_arguments
def compose(edits: Sequence[Shift], *, shared: Shared = "sum") -> Composed:
    """Steer towards several values at once.

    Args:
        edits: Shifts (`Shift`, `Amplify`), each at its own dose; of one scope and one gate.
        shared: Rule for a neuron that several of them move: `sum` of the steps (as separate edits do), their `mean`, the
            `strongest` alone (largest in size; equal and opposite ones cancel), or `refuse` such sets.

    Raises:
        InputError: No edits, an edit other than a shift, different scopes or gates, or a shared neuron under `refuse`.

    Example:
        >>> power = nv.select(stats, "power", k=20)
        >>> both = nv.editing.compose([nv.Shift(neurons, dose=2.0), nv.Shift(power, dose=2.0)], shared="strongest")
        >>> with nv.edit(model, both):
        ...     texts = nv.generate(model, ["mara says that"], max_new_tokens=4)
    """
    parts = tuple(edits)
    if shared not in get_args(Shared):
        raise InputError(f"unknown rule {shared!r} for shared neurons: choose {', '.join(get_args(Shared))}")
    if not parts:
        raise InputError("nothing to compose: name at least one edit")
    for item in parts:
        if not isinstance(item, Shift):
            raise InputError(
                f"only shifts can be composed, not {type(item).__name__}: pass it to edit() as a separate edit instead"
            )
    if len({item.scope for item in parts}) > 1 or len({id(item.gate) for item in parts}) > 1:
        raise InputError(
            "edits of different scopes or gates cannot be composed: pass them to edit() separately, or make them equal"
        )
    if shared == "refuse":
        _refuse_shared(parts)
    return Composed(parts, shared, scope=parts[0].scope, gate=parts[0].gate)


def _refuse_shared(parts: tuple[Shift, ...]) -> None:
    owner: dict[tuple[int, int], str] = {}
    for shift in parts:
        rows = shift.chosen()
        for layer, neuron in zip(rows["layer"].astype(int), rows["neuron"].astype(int), strict=True):
            if (layer, neuron) in owner:
                raise InputError(
                    f"{owner[layer, neuron]} and {shift.neurons.value} share neuron {neuron} of layer {layer}: choose the "
                    "rule sum, mean or strongest, or disjoint sets of neurons"
                )
            owner[layer, neuron] = shift.neurons.value


def _merged(steps: list[float], shared: Shared) -> float:
    # fsum is exact, so that the order of the shifts does not change the last digit
    if shared == "mean":
        return math.fsum(steps) / len(steps)
    if shared == "strongest":
        largest = max(abs(step) for step in steps)
        tied = {step for step in steps if abs(step) == largest}
        return math.fsum(tied) / len(tied)
    return math.fsum(steps)


def _adder(steps: dict[int, float]) -> Constant:
    return Constant(torch.as_tensor(np.array(list(steps.values()), dtype=np.float32)), torch.tensor(list(steps)))
