"""compose(): shifts towards several values as one edit, with a stated rule for the neurons they share (ours).

Edits given side by side (`edit(model, a, b)`) act one after the other: for shifts that is the rule `sum`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from neva_tl.core.errors import InputError
from neva_tl.editing.base import Change, Edit, check_model
from neva_tl.editing.constant import Constant
from neva_tl.editing.edits.shift import Shift
from neva_tl.models import EditableModel

Shared = Literal["sum", "mean", "strongest", "refuse"]


@dataclass(frozen=True, eq=False)
class Composed(Edit):
    """Several shifts as one: `h_k += dose * step_k`, step_k made of the parts' own `dose * contrast` by the rule.

    The dose scales the whole (1: the parts at their own doses; negative: all reversed).

    Attributes:
        parts: the shifts.
        shared: the rule for a neuron that several parts move (see `compose`).
    """

    parts: tuple[Shift, ...]
    shared: Shared = "sum"

    def steps(self) -> dict[tuple[int, int], float]:
        """(layer, neuron) -> what dose 1 adds, in activation units; the same in whatever order the parts stand."""
        found: dict[tuple[int, int], list[float]] = {}
        for part in self.parts:
            rows = part.chosen()
            for layer, neuron, step in zip(rows["layer"], rows["neuron"], part.step(rows) * part.dose, strict=True):
                found.setdefault((int(layer), int(neuron)), []).append(float(step))
        return {at: _merged(steps, self.shared) for at, steps in sorted(found.items())}

    def changes(self, model: EditableModel) -> tuple[Change, ...]:
        """One change per layer.

        Raises:
            InputError: a part was made on another model.
        """
        for part in self.parts:
            check_model(part.neurons, model)
        by_layer: dict[int, dict[int, float]] = {}
        for (layer, neuron), step in self.steps().items():
            by_layer.setdefault(layer, {})[neuron] = self.dose * step
        return tuple(Change(layer, "post", _adder(steps)) for layer, steps in by_layer.items())


def compose(edits: Sequence[Shift], *, shared: Shared = "sum") -> Composed:
    """Steer towards several values at once.

    Args:
        edits: shifts (`Shift`, `Amplify`), each at its own dose; of one scope and one gate.
        shared: what becomes of a neuron that several of them move: `sum` of the steps (what edits side by side do), their
            `mean`, the `strongest` alone (largest in size; equal and opposite ones cancel), or `refuse` such sets.

    Raises:
        InputError: no edits, one that is no shift, scopes or gates differ, or a shared neuron under `refuse`.
    """
    parts = tuple(edits)
    if shared not in get_args(Shared):
        raise InputError(f"unknown rule {shared!r} for shared neurons: choose {', '.join(get_args(Shared))}")
    if not parts:
        raise InputError("nothing to compose: name at least one edit")
    for part in parts:
        if not isinstance(part, Shift):
            raise InputError(
                f"only shifts can be composed, not {type(part).__name__}: give it beside the others instead"
            )
    if len({part.scope for part in parts}) > 1 or len({id(part.gate) for part in parts}) > 1:
        raise InputError("edits of different scopes or gates cannot be one: give them side by side, or make them alike")
    if shared == "refuse":
        _refuse_shared(parts)
    return Composed(parts, shared, scope=parts[0].scope, gate=parts[0].gate)


def _refuse_shared(parts: tuple[Shift, ...]) -> None:
    owner: dict[tuple[int, int], str] = {}
    for part in parts:
        rows = part.chosen()
        for at in zip(rows["layer"].astype(int), rows["neuron"].astype(int), strict=True):
            if at in owner:
                raise InputError(
                    f"{owner[at]} and {part.neurons.value} share neuron {at[1]} of layer {at[0]}: choose the rule sum, mean "
                    "or strongest, or neurons that are apart"
                )
            owner[at] = part.neurons.value


def _merged(steps: list[float], shared: Shared) -> float:
    # fsum is exact, so that no order of the parts shows in the last digit
    if shared == "mean":
        return math.fsum(steps) / len(steps)
    if shared == "strongest":
        largest = max(abs(step) for step in steps)
        tied = {step for step in steps if abs(step) == largest}
        return math.fsum(tied) / len(tied)
    return math.fsum(steps)


def _adder(steps: dict[int, float]) -> Constant:
    return Constant(torch.as_tensor(np.array(list(steps.values()), dtype=np.float32)), torch.tensor(list(steps)))
