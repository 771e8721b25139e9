"""Constant: a step that is the same at every token; several at one hook point are fused to one addition."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class PerDevice:
    """Tensors cached per device: a copy in every forward pass would cost more than the edit."""

    def __init__(self, *tensors: Tensor) -> None:
        """Store the tensors.

        Args:
            *tensors: The tensors, on any device.
        """
        self._tensors = tensors
        self._on: dict[torch.device, tuple[Tensor, ...]] = {}

    def on(self, device: torch.device) -> tuple[Tensor, ...]:
        """The tensors on a device, in their original order."""
        copies = self._on.get(device)
        if copies is None:
            # a copy made in inference mode could not be used with gradients later
            with torch.inference_mode(False):
                copies = self._on[device] = tuple(tensor.to(device) for tensor in self._tensors)
        return copies


@dataclass(frozen=True, eq=False)
class Constant:
    """`x[..., index] += step`, out of place, in float32 at least (half precision would round small steps away).

    Attributes:
        step: The step of each coordinate.
        index: The coordinates, each once; None: all of them, in order.
    """

    step: Float[Tensor, " s"]
    index: Int[Tensor, " s"] | None = None
    _dense: dict[tuple[int, torch.device], Tensor] = field(default_factory=dict, repr=False)
    _sparse: list[PerDevice] = field(default_factory=list, repr=False)

    def dense(self, width: int) -> Float[Tensor, " d"]:
        """The step over a full row of a width, zero at all other coordinates."""
        if self.index is None:
            return self.step
        return torch.zeros(width, dtype=self.step.dtype).index_copy(0, self.index, self.step)

    def __call__(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """The activation with the step at every token."""
        # one addition over full rows: an activation must be copied anyway, and sparse kernels took 2 to 5 times as long
        key = (x.shape[-1], x.device)
        row = self._dense.get(key)
        if row is None:
            with torch.inference_mode(False):
                row = self._dense[key] = self.dense(key[0]).to(key[1])
        new = x + row
        return new if new.dtype == x.dtype else new.to(x.dtype)

    def within(self, x: Float[Tensor, "b n d"], selected: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """The activation with the step at the selected tokens; other tokens stay equal bit for bit.

        Args:
            x: The activation.
            selected: True for selected tokens.
        """
        if self.index is None or x.dtype != self.step.dtype:
            return torch.where(selected[..., None], self(x), x)
        if not self._sparse:
            self._sparse.append(PerDevice(self.index, self.step))
        index, step = self._sparse[0].on(x.device)
        return x.index_add(-1, index, torch.where(selected[..., None], step, 0.0))

    def plus(self, other: Constant, width: int) -> Constant:
        """Both steps as one (summed in float64).

        Args:
            other: The other step.
            width: Width of the hook point.
        """
        if self.index is None or other.index is None:
            return Constant((self.dense(width).double() + other.dense(width).double()).float())
        index, position = torch.cat([self.index, other.index]).unique(return_inverse=True)
        both = torch.cat([self.step, other.step]).double()
        return Constant(torch.zeros(len(index), dtype=torch.float64).index_add(0, position, both).float(), index)
