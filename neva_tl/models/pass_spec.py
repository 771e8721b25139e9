"""The options of a forward pass as one record, from `forward` down to the two TransformerLens classes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PassSpec:
    """How much of the model a forward pass runs, and which logits it returns.

    Attributes:
        stop_at_layer: Stop after block `stop_at_layer - 1`, without logits; None runs all blocks.
        logits: False skips the LM head.
        positions: Return logits at these positions only (the same for all rows).
        scored: Return logits of these tokens only, in reading order; the LM head runs on no other token.
        packed: Run the real tokens alone, end to end in one row; no logits and no cache.
        grad: Keep the graph; parameters of loaded models take no gradients, activations can.
    """

    stop_at_layer: int | None = None
    logits: bool = True
    positions: Int[Tensor, " m"] | None = None
    scored: Bool[Tensor, "b n"] | None = None
    packed: bool = False
    grad: bool = False

    @property
    def wants_logits(self) -> bool:
        """Whether the pass returns logits (packed passes never do)."""
        return self.logits and self.stop_at_layer is None and not self.packed

    def stops_before(self, n_layers: int) -> bool:
        """Whether the pass leaves out the last of `n_layers` blocks."""
        return self.stop_at_layer is not None and self.stop_at_layer < n_layers

    def grad_mode(self) -> AbstractContextManager[Any]:
        """The context in which the pass runs: without gradients unless `grad`."""
        return nullcontext() if self.grad else torch.no_grad()
