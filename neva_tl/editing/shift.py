"""Shift: add a constant to each neuron, in units of what moves it from the - pole to the + pole."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from neva_tl.editing.base import NeuronEdit, column
from neva_tl.neurons import NeuronSet


@dataclass(frozen=True, eq=False)
class Shift(NeuronEdit):
    """`h_k += dose * (mean_plus_k - mean_minus_k)` (METHODS 4; ours).

    The dose is a multiple of the neuron's own contrast: 1 moves a neuron by as much as the two poles differ; a
    negative dose suppresses the value.
    """

    def new_values(self, h: Float[Tensor, "b n s"], rows: pd.DataFrame) -> Float[Tensor, "b n s"]:
        """See `NeuronEdit.new_values`."""
        return h + self.dose * column(rows, rows["mean_plus"] - rows["mean_minus"], h)


def Amplify(neurons: NeuronSet, dose: float = 1.0, **options: object) -> Shift:
    """Steer towards a value: a `Shift` in units of `mean(+) - mean(-)` per neuron."""
    return Shift(neurons, dose=dose, **options)  # type: ignore[arg-type]
