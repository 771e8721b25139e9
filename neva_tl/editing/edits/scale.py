"""Scale: multiply each neuron's activation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from neva_tl.core.auto import DoseUnit
from neva_tl.editing.base import NeuronEdit


@dataclass(frozen=True, eq=False)
class Scale(NeuronEdit):
    """`h_k *= dose` (METHODS 4; ours). Dose 1 changes nothing, 0 ablates, 2 doubles."""

    unit: ClassVar[DoseUnit] = "none"  # a factor: 1, not 0, changes nothing
    effects: Literal["positive", "all"] = field(default="positive", kw_only=True)

    def moved(self, h: Float[Tensor, "b n s"], *per_neuron: Tensor) -> Float[Tensor, "b n s"]:
        """See `NeuronEdit.moved`."""
        del per_neuron
        return h * self.dose
