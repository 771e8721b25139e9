"""Ablate: replace a neuron's activation by zero, a mean, or its activation at another token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl.core.errors import InputError
from neva_tl.editing.base import NeuronEdit

Mode = Literal["zero", "mean", "plus", "resample"]


@dataclass(frozen=True, eq=False)
class Ablate(NeuronEdit):
    """`h_k = r_k`: ablation of neurons to a replacement value r (METHODS 4; ours).

    r is zero, the mean of the two poles' means, the + pole's mean, or the same neuron at another token. `resample` permutes
    the activations over all tokens of the forward pass with a generator of the edit's seed: the neuron keeps its distribution
    and loses its information. Under the KV cache a forward pass contains one token per row, so that rows exchange activations
    there. A dose below 1 mixes: `h_k + dose * (r_k - h_k)`.

    Attributes:
        mode: `zero`, `mean`, `plus` (how LAPE activates a neuron) or `resample`.
        seed: Seed of the permutation.
    """

    mode: Mode = field(default="zero", kw_only=True)
    seed: int = field(default=0, kw_only=True)
    effects: Literal["positive", "all"] = field(default="positive", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in get_args(Mode):
            raise InputError(f"unknown ablation {self.mode!r}: choose {', '.join(get_args(Mode))}")

    @property
    def by_token(self) -> bool:
        """False when resampling, which permutes tokens over the full batch."""
        return self.mode != "resample"

    def per_neuron(self, rows: pd.DataFrame) -> tuple[np.ndarray, ...]:
        """Replacement value of each neuron, where it is a mean."""
        plus = rows["mean_plus"].to_numpy(dtype=np.float64)
        if self.mode == "mean":
            return ((plus + rows["mean_minus"].to_numpy(dtype=np.float64)) / 2,)
        return (plus,) if self.mode == "plus" else ()

    def moved(self, h: Float[Tensor, "b n s"], *per_neuron: Tensor) -> Float[Tensor, "b n s"]:
        """See `NeuronEdit.moved`."""
        if self.mode == "zero":
            target = torch.zeros_like(h)
        elif self.mode != "resample":
            target = per_neuron[0].expand_as(h)
        else:
            order = np.random.default_rng(self.seed).permutation(h.shape[0] * h.shape[1])
            flat = h.reshape(-1, h.shape[-1])
            target = flat[torch.as_tensor(order, device=h.device)].reshape(h.shape)
        return target if self.dose == 1.0 else h + self.dose * (target - h)
