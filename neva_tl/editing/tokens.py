"""Activations of single tokens of training texts, for gates and probes."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neva_tl import models
from neva_tl.models import inference
from neva_tl.models.hooks import record_hooks


def last_answer_token(batch: inference.Batch) -> Bool[Tensor, "b n"]:
    """Mask of the last answer token of every row."""
    position = torch.arange(batch.answer.shape[1], device=batch.answer.device)
    end = torch.where(batch.answer, position, -1).amax(dim=1, keepdim=True)
    return batch.answer & (position[None] == end)


def chosen_tokens(
    model: models.Model,
    batch: inference.Batch,
    selected: Bool[Tensor, "b n"],
    layers: tuple[int, ...],
    site: str = "post",
) -> Float[np.ndarray, "t l k"]:
    """Activations of the selected tokens at some layers, row after row.

    Args:
        model: A TransformerLens model.
        batch: The batch to run.
        selected: True for selected tokens.
        layers: The layers.
        site: Short name of the hook point; `gate` returns `act(gate)`, the activation of the gate itself.
    """
    act = models.activation(model) if site == "gate" else None

    def keep(x: Tensor) -> Tensor:
        h = x[selected.to(x.device)]
        return (h if act is None else act(h)).float().cpu()

    names = [models.hook_name(model, layer, site) for layer in layers]
    with record_hooks(model, names, keep) as activations:
        inference.forward_batch(model, batch, stop_at_layer=max(layers) + 1, logits=False)
    return np.stack([activations[name].numpy() for name in names], axis=1)
