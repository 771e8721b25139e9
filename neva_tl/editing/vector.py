"""AddVector: add a direction to the residual stream (what steering-vector methods do)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neva_tl import models
from neva_tl.editing.base import Change, Edit
from neva_tl.errors import InputError


@dataclass(frozen=True, eq=False)
class AddVector(Edit):
    """`resid_post[L] += dose * vectors[L]` for every layer L given.

    Attributes:
        vectors: layer -> direction `[d_model]`, in residual-stream units.
        name: of the method, for tables.
    """

    vectors: Mapping[int, np.ndarray]
    name: str = "vector"

    def changes(self, model: Any) -> tuple[Change, ...]:
        """One change per layer.

        Raises:
            InputError: a layer or width does not fit the model, or a vector is not finite.
        """
        info = models.info(model)
        for layer, vector in self.vectors.items():
            if not 0 <= layer < info.n_layers or vector.shape != (info.d_model,):
                raise InputError(
                    f"a vector of shape {vector.shape} at layer {layer} does not fit this model: "
                    f"{info.n_layers} layers of width {info.d_model}"
                )
            if not np.isfinite(vector).all():
                raise InputError(f"the steering vector at layer {layer} is not finite")
        return tuple(Change(layer, "resid_post", self._adder(v)) for layer, v in sorted(self.vectors.items()))

    def _adder(self, vector: np.ndarray) -> Callable[[Tensor], Tensor]:
        step = torch.as_tensor(np.asarray(vector, dtype=np.float32) * self.dose)
        return lambda x: x + step.to(device=x.device, dtype=x.dtype)
