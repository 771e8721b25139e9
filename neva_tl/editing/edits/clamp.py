"""Clamp: bound each neuron by a level of its + pole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import norm
from torch import Tensor

from neva_tl.core.auto import DoseUnit
from neva_tl.core.errors import InputError
from neva_tl.editing.base import NeuronEdit


@dataclass(frozen=True, eq=False)
class Clamp(NeuronEdit):
    """`h_k = max(h_k, level_k)` for neurons higher on the + pole, `min(h_k, level_k)` for neurons lower there.

    `level_k = mean_minus_k + dose * (quantile_k - mean_minus_k)`: at dose 1 the level is the stated quantile of the
    neuron's pooled activations on the + pole (for neurons lower on + the mirrored quantile), at dose 0 the - pole's
    mean. The quantile is that of a normal distribution, `mean_plus +- sd * z(quantile)`, unless the neuron table has a column
    `level` with a measured one. (METHODS 4; the normal approximation is ours.)

    Attributes:
        quantile: Quantile in (0, 1).
    """

    unit: ClassVar[DoseUnit] = "share"
    quantile: float = field(default=0.75, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.quantile < 1:
            raise InputError(f"a quantile lies inside (0, 1), not {self.quantile}")

    def per_neuron(self, rows: pd.DataFrame) -> tuple[np.ndarray, ...]:
        """Level of each neuron, and whether the level is a lower bound."""
        up = (rows["mean_plus"] > rows["mean_minus"]).to_numpy()
        if "level" in rows:
            level = rows["level"].to_numpy(dtype=float)
        else:
            spread = rows["sd"].to_numpy() * norm.ppf(self.quantile)
            level = rows["mean_plus"].to_numpy() + np.where(up, spread, -spread)
        low = rows["mean_minus"].to_numpy()
        return low + self.dose * (level - low), up

    def moved(self, h: Float[Tensor, "b n s"], *per_neuron: Tensor) -> Float[Tensor, "b n s"]:
        """See `NeuronEdit.moved`."""
        level, up = per_neuron
        return torch.where(up, torch.maximum(h, level), torch.minimum(h, level))
