"""GateShift: raise a neuron's gate by a share of its high activations (NPTI, ICLR 2025; ValueLocate, 2505.17712).

On gated MLPs `a = act(gate)` is edited and multiplied by `up` as before (`h += (a' - a) * up` at the output projection's
input, so that it composes with other edits); without a gate a is `hook_post` itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.core.auto import DoseUnit
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing.base import Change, Edit, PromptContext, check_model, column
from neva_tl.editing.constant import PerDevice

#: Smallest gamma of the paper; from this gamma on the opposite neurons are fully silenced.
LEAST_GAMMA = 0.1


@dataclass(frozen=True, eq=False)
class GateShift(Edit):
    """Neurons of the value: `a += gamma * max(0, q95) * sigmoid(10 * (p_diff - .15))`; opposite ones: `a = min(a, 0)`.

    The dose is gamma. The paper silences the opposite neurons at any gamma (.1 to 2); so that dose 0 changes nothing, they
    are silenced by the share `min(1, gamma / .1)` (ours; equal to the paper from .1 on). A negative dose swaps the two groups:
    it steers to the opposite pole with |gamma|.

    Attributes:
        neurons: Neurons at site `gate` (or `post`, on a model without gate), with columns `p_diff` (difference of activation
            probability; its sign tells neurons of the value from opposite ones) and `q95` (95th percentile of a over training
            tokens).
    """

    unit: ClassVar[DoseUnit] = "gamma"
    neurons: NeuronSet

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.neurons):
            raise InputError(f"the neuron set for {self.neurons.value} is empty: nothing to edit (relax the selection)")
        for name in ("p_diff", "q95"):
            if name not in self.neurons.df:
                raise InputError(
                    f"the neuron set for {self.neurons.value} lacks the column {name!r} that this edit reads"
                )

    def changes(self, model: models.EditableModel) -> tuple[Change, ...]:
        """One change per layer that contains neurons.

        Args:
            model: A TransformerLens model.

        Raises:
            InputError: The set was selected on another model, or at a site that this model lacks.
        """
        check_model(self.neurons, model)
        gated = self.neurons.site == "gate"
        if gated != models.info(model).gated:
            has = "a gate" if not gated else "no gate"
            raise InputError(
                f"neurons at site {self.neurons.site!r} do not fit {models.info(model).name}: its MLP has {has}"
            )
        out = []
        for layer in self.neurons.layers:
            rows = self.neurons.at(layer)
            if gated:
                out.append(Change(layer, "post", self._through_gate(rows, models.activation(model)), ("gate", "up")))
            else:
                out.append(Change(layer, "post", self._direct(rows)))
        return tuple(out)

    def new_values(self, a: Float[Tensor, "b n s"], rows: pd.DataFrame) -> Float[Tensor, "b n s"]:
        """New activations `a'` of one layer's neurons.

        Args:
            a: Their present activations.
            rows: Their rows of the neuron table.
        """
        return self._moved(a, *(numbers.to(a.device) for numbers in self._numbers(rows)))

    @staticmethod
    def _moved(a: Float[Tensor, "b n s"], up: Tensor, down: Tensor) -> Float[Tensor, "b n s"]:
        return a + up - down * a.clamp(min=0.0)

    def _numbers(self, rows: pd.DataFrame) -> tuple[Tensor, Tensor]:
        """The raise of each neuron, and the share by which each opposite neuron is silenced."""
        p, gamma = rows["p_diff"].to_numpy(dtype=float), abs(self.dose)
        supports = p * np.sign(self.dose) > 0
        raised = gamma * np.maximum(rows["q95"].to_numpy(dtype=float), 0.0) / (1 + np.exp(-10 * (np.abs(p) - 0.15)))
        silenced = min(1.0, gamma / LEAST_GAMMA)
        return column(np.where(supports, raised, 0.0)), column(np.where(supports, 0.0, silenced))

    def _direct(self, rows: pd.DataFrame) -> Callable[[Tensor], Tensor]:
        stored = PerDevice(torch.tensor(rows["neuron"].tolist()), *self._numbers(rows))

        def apply(x: Tensor) -> Tensor:
            index, up, down = stored.on(x.device)
            return x.index_copy(-1, index, self._moved(x.index_select(-1, index), up, down).to(x.dtype))

        return apply

    def _through_gate(
        self, rows: pd.DataFrame, act: Callable[[Tensor], Tensor]
    ) -> Callable[[Tensor, PromptContext], Tensor]:
        stored = PerDevice(torch.tensor(rows["neuron"].tolist()), *self._numbers(rows))

        def apply(x: Tensor, context: PromptContext) -> Tensor:
            index, up, down = stored.on(x.device)
            a = act(context.sites["gate"].index_select(-1, index))
            change = (self._moved(a, up, down) - a) * context.sites["up"].index_select(-1, index)
            return x.index_copy(-1, index, (x.index_select(-1, index) + change).to(x.dtype))

        return apply
