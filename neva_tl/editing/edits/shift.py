"""Shift: add a constant to each neuron, in units of what moves it from the - pole to the + pole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing.base import NeuronEdit
from neva_tl.editing.constant import Constant


@dataclass(frozen=True, eq=False)
class Shift(NeuronEdit):
    """`h_k += dose * (mean_plus_k - mean_minus_k)` (METHODS 4; ours).

    The dose is a multiple of the neuron's contrast: 1 moves a neuron by the difference of the two poles; a negative dose
    suppresses the value.

    Attributes:
        weights: Column of the neuron table that scales each neuron's step (DPN-LE's rank weights); None for no weights.

    Example:
        >>> towards, away = nv.Shift(neurons, dose=4.0), nv.Shift(neurons, dose=-4.0)
        >>> with nv.edit(model, towards):
        ...     texts = nv.generate(model, ["mara says that"], max_new_tokens=4)
    """

    weights: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is not None and self.weights not in self.neurons.df:
            raise InputError(f"the neuron set for {self.neurons.value} has no column {self.weights!r} to weigh by")

    def what(self) -> str:
        """See `Edit.what`."""
        weighed = "" if self.weights is None else f" x {self.weights}"
        return f"adds dose x (mean on the + pole - mean on the - pole){weighed} to each neuron"

    def step(self, rows: pd.DataFrame) -> Float[np.ndarray, " s"]:
        """Step of each neuron at dose 1.

        Args:
            rows: Rows of the neuron table.
        """
        contrast = (rows["mean_plus"] - rows["mean_minus"]).to_numpy(dtype=np.float64)
        return contrast if self.weights is None else contrast * rows[self.weights].to_numpy(dtype=np.float64)

    def per_neuron(self, rows: pd.DataFrame) -> tuple[np.ndarray, ...]:
        """Step of each neuron at dose 1."""
        return (self.step(rows),)

    def moved(self, h: Float[Tensor, "b n s"], *per_neuron: Tensor) -> Float[Tensor, "b n s"]:
        """See `NeuronEdit.moved`."""
        return h + self.dose * per_neuron[0]

    def _by_numbers(self, index: Int[Tensor, " s"], numbers: tuple[Tensor, ...]) -> Callable[[Tensor], Tensor]:
        if type(self).moved is not Shift.moved:  # a user's subclass
            return super()._by_numbers(index, numbers)
        return Constant(self.dose * numbers[0], index)


@check_arguments
def Amplify(neurons: NeuronSet, dose: float = 1.0, **options: object) -> Shift:
    """Steer towards a value: a `Shift` in units of `mean(+) - mean(-)` per neuron.

    Args:
        neurons: The neurons to edit.
        dose: Multiple of each neuron's contrast.
        **options: Scope, gate, effects, weights of the edit.

    Example:
        >>> edit = nv.Amplify(neurons, dose=2.0, scope="generated")
        >>> edit.dose, edit.scope
        (2.0, 'generated')
    """
    return Shift(neurons, dose=dose, **options)  # type: ignore[arg-type]
