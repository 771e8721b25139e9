"""A model, a task and mean activations: the three inputs of every circuit measurement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl.circuits.search.gates import TOKEN_BUDGET, Means, contrast, gated, mean_activations, text_log_odds
from neva_tl.circuits.search.nodes import Nodes, split
from neva_tl.circuits.search.task import ValueTask
from neva_tl.models import Model, inference


@dataclass(frozen=True, eq=False)
class CircuitRun:
    """A model on a task, with the means that replace ablated activations.

    Attributes:
        model: A TransformerLens model.
        task: Texts, their poles, and the values' tokens.
        means: Mean activations by position (see `gates`).
    """

    model: Model
    task: ValueTask
    means: Means

    @classmethod
    def of(cls, model: Model, task: ValueTask, means: Means | None = None) -> CircuitRun:
        """Return a run, with the means of the task's own texts unless others are given.

        Args:
            model: A TransformerLens model.
            task: The task.
            means: By default `mean_activations(model, task)`.
        """
        return cls(model, task, mean_activations(model, task) if means is None else means)

    @property
    def target_column(self) -> int:
        """Column of the task's value in tables over `task.ids`."""
        return list(self.task.ids).index(self.task.value)

    def on(self, task: ValueTask) -> CircuitRun:
        """Return the same run on another task, means unchanged.

        Args:
            task: Usually a subset of the texts.
        """
        return replace(self, task=task)

    def batches(self) -> Iterator[tuple[np.ndarray, inference.Batch]]:
        """Yield the task's texts as (row indices, batch)."""
        yield from inference.batches(self.model, self.task.examples, token_budget=TOKEN_BUDGET, chat=self.task.chat)

    def text_weights(self, rows: np.ndarray, device: torch.device) -> Float[Tensor, " b"]:
        """Weights of some texts in m (see `ValueTask.weights`).

        Args:
            rows: Row indices of the texts.
            device: Device of the result.
        """
        return torch.as_tensor(self.task.weights[rows], dtype=torch.float32, device=device)

    def gated(self, gates: Float[Tensor, " n_nodes"]) -> AbstractContextManager[None]:
        """Put gates on all heads and neurons for the length of a block.

        Args:
            gates: One gate per head, then per neuron, on the model's device.
        """
        return gated(self.model, self.means, *split(self.model, gates))

    def log_odds(self, nodes: Nodes) -> Float[np.ndarray, " n"]:
        """Log-odds of the task's value on every text, with everything outside the nodes mean-ablated.

        Args:
            nodes: Heads and neurons that keep their activations.
        """
        return text_log_odds(self.model, self.task, self.means, nodes)[:, self.target_column]

    def m(self, nodes: Nodes) -> float:
        """The task's contrast m, in nats, with everything outside the nodes mean-ablated.

        Args:
            nodes: Heads and neurons that keep their activations.
        """
        return float(contrast(self.task, self.log_odds(nodes)))
