"""Activations of single tokens of training texts, for gates and probes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neva_tl import models
from neva_tl.models import inference


def last_answer_token(batch: inference.Batch) -> Bool[Tensor, "b n"]:
    """The last answer token of every row."""
    position = torch.arange(batch.answer.shape[1], device=batch.answer.device)
    end = torch.where(batch.answer, position, -1).amax(dim=1, keepdim=True)
    return batch.answer & (position[None] == end)


def chosen_tokens(
    model: models.Model,
    batch: inference.Batch,
    chosen: Bool[Tensor, "b n"],
    layers: tuple[int, ...],
    site: str = "post",
) -> Float[np.ndarray, "t l k"]:
    """Activations of the chosen tokens at some layers, row after row; site `gate` is `act(gate)`, the gate's own activation."""
    seen: dict[int, np.ndarray] = {}
    act = models.activation(model) if site == "gate" else None

    def recorder(layer: int) -> Callable[..., None]:
        def record(x: Tensor, hook: Any = None) -> None:
            kept = x[chosen.to(x.device)]
            seen[layer] = (kept if act is None else act(kept)).float().cpu().numpy()

        return record

    with ExitStack() as stack:
        for layer in layers:
            handle = models.add_hook(model, models.hook_name(model, layer, site), recorder(layer))
            stack.callback(handle.remove)
        inference.forward_batch(model, batch, stop_at_layer=max(layers) + 1, logits=False)
    return np.stack([seen[layer] for layer in layers], axis=1)
