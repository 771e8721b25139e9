"""The matrix products of a model's blocks alone: an upper limit of the speed of collecting."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any


def matrices(hf: Any) -> tuple[Counter[tuple[int, int]], int]:
    """Return counts of matrices by shape (input, output), and neurons per layer."""
    blocks = hf.transformer.h if hasattr(hf, "transformer") else hf.model.layers
    shapes: Counter[tuple[int, int]] = Counter()
    for key, weight in blocks.named_parameters():
        if weight.ndim == 2 and key.endswith("weight"):
            # Conv1D of transformers has (input, output), Linear the reverse
            shapes[tuple(weight.shape) if hasattr(hf, "transformer") else tuple(weight.shape)[::-1]] += 1  # type: ignore[index]
    return shapes, getattr(hf.config, "intermediate_size", None) or 4 * hf.config.n_embd


class Products:
    """Every weight matrix of the blocks times as many rows as a batch of `collect` has."""

    def __init__(self, hf: Any, dtype: Any) -> None:
        """Make random weights and buffers.

        Args:
            hf: the model, for its shapes.
            dtype: number format.
        """
        import torch

        from neva_tl.activations.plan import token_budget_for

        shapes, width = matrices(hf)
        self.rows = token_budget_for("cpu", width)
        # every layer has its own weights, as in a model: a single matrix would stay in the cache
        self.weights = {
            shape: [torch.randn(shape[::-1], dtype=dtype).T for _ in range(count)] for shape, count in shapes.items()
        }
        # buffers of the products are allocated before the timing
        self.buffers = {
            shape: (torch.randn(self.rows, shape[0], dtype=dtype), torch.empty(self.rows, shape[1], dtype=dtype))
            for shape in shapes
        }
        self.flops_per_token = 2 * sum(count * rows * columns for (rows, columns), count in shapes.items())

    def seconds(self, rows: int | None = None) -> float:
        """Multiply once, and return the seconds.

        Args:
            rows: number of rows; None takes those of a whole batch.
        """
        import torch

        total = 0.0
        for shape, of_shape in self.weights.items():
            x, out = (buffer[:rows] for buffer in self.buffers[shape])
            started = time.perf_counter()
            for weight in of_shape:
                torch.mm(x, weight, out=out)
            total += time.perf_counter() - started
        return total
