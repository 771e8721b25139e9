"""Rescale: multiply each neuron's activation by a factor of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from neva_tl.core.auto import DoseUnit
from neva_tl.core.errors import InputError
from neva_tl.editing.base import NeuronEdit


@dataclass(frozen=True, eq=False)
class Rescale(NeuronEdit):
    """`h_k *= max(lowest, 1 + dose * weight_k)` (AUSteer, CNA).

    The step is a multiple of the activation itself. Dose 0 changes nothing, and a negative dose exchanges the neurons that grow
    with those that shrink. `Scale` multiplies all neurons by the dose itself.

    Attributes:
        weights: Column of the neuron table with each neuron's weight; None for a weight of 1.
        lowest: Smallest factor: 0 stops at ablation; None has no bound, so that a factor below 0 reverses an activation's sign.

    Example:
        >>> from neva_tl.editing import Rescale
        >>> halved = Rescale(neurons, dose=-0.5)
        >>> with nv.edit(model, halved):
        ...     texts = nv.generate(model, ["mara says that"], max_new_tokens=4)
    """

    unit: ClassVar[DoseUnit] = "factor"
    weights: str | None = field(default=None, kw_only=True)
    lowest: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is not None and self.weights not in self.neurons.df:
            raise InputError(f"the neuron set for {self.neurons.value} has no column {self.weights!r} to weigh by")
        if self.lowest is not None and not self.lowest <= 1:
            raise InputError(f"the smallest factor is at most 1, which is no change, not {self.lowest}")

    def what(self) -> str:
        """See `Edit.what`."""
        weighed = "" if self.weights is None else f" x {self.weights}"
        bound = "" if self.lowest is None else f" (at least {self.lowest:g})"
        return f"multiplies each neuron's activation by 1 + dose{weighed}{bound}"

    def per_neuron(self, rows: pd.DataFrame) -> tuple[np.ndarray, ...]:
        """Factor of each neuron at the dose."""
        weight = np.ones(len(rows)) if self.weights is None else rows[self.weights].to_numpy(dtype=np.float64)
        factor = 1.0 + self.dose * weight
        return (factor if self.lowest is None else np.maximum(factor, self.lowest),)

    def moved(self, h: Float[Tensor, "b n s"], *per_neuron: Tensor) -> Float[Tensor, "b n s"]:
        """See `NeuronEdit.moved`."""
        return h * per_neuron[0]
