"""Gradient effect: a neuron's first-order effect on value tokens by all paths, later layers included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.models import inference
from neva_tl.models.hooks import temporary_hooks
from neva_tl.prompts.example import Example


def gradient_effects(
    model: models.Model,
    neurons: NeuronSet,
    examples: Sequence[Example],
    tokens: Sequence[int],
    *,
    chat: bool | None = None,
    token_budget: int = 2048,
) -> Float[np.ndarray, " n_neurons"]:
    """First-order change of the tokens' mean log-probability when each neuron moves from its - mean to its + mean.

    `delta_k * sum_p dm/dh_k[p]`, p over answer tokens, m = mean over answer tokens of the mean of log P(token | text
    so far),
    averaged over examples: the linear estimate of what a Shift of dose 1 on answer tokens does (attribution patching
        with
    the mean difference as the patch; Nanda 2023). What it cannot see is curvature: check large effects by editing.

    Args:
        neurons: at site `post`.
        examples: texts at whose answer tokens the effect is taken.
        tokens: token ids, for example of one value (`value_tokens`).
        token_budget: padded tokens of a batch (activations of all layers are kept for the backward pass).

    Raises:
        InputError: no tokens, no examples, or neurons at another site.
    """
    if not len(tokens) or not len(examples):
        raise InputError("gradient effects need at least one token and one example")
    if neurons.site != "post":
        raise InputError(f"gradient effects need neurons at site 'post': this set is at {neurons.site!r}")
    layer, index = neurons.df["layer"].to_numpy(dtype=int), neurons.df["neuron"].to_numpy(dtype=int)
    total = np.zeros(len(neurons))
    for _, batch in inference.batches(model, examples, token_budget=token_budget, chat=chat):
        gradients = _gradients(model, batch, list(tokens), neurons.layers)
        for place, (at, which) in enumerate(zip(layer, index, strict=True)):
            total[place] += float(gradients[int(at)][int(which)])
    delta = (neurons.df["mean_plus"] - neurons.df["mean_minus"]).to_numpy(dtype=float)
    return delta * total / len(examples)


def _gradients(
    model: models.Model, batch: inference.Batch, tokens: list[int], layers: Sequence[int]
) -> dict[int, Float[Tensor, " d_mlp"]]:
    """Per layer, the gradient of the batch's summed metric, summed over answer tokens."""

    def metric(logits: Tensor) -> Tensor:
        picked = torch.log_softmax(logits.float(), dim=-1)[..., tokens].mean(dim=-1)
        weight = batch.answer / batch.answer.sum(dim=1, keepdim=True).clamp_min(1)
        return (picked * weight).sum()

    answer = batch.answer[..., None]
    return {layer: (g * answer).sum(dim=(0, 1)) for layer, g in layer_probes(model, batch, layers, metric).items()}


def layer_probes(
    model: models.Model, batch: inference.Batch, layers: Sequence[int], metric: Callable[[Tensor], Tensor]
) -> dict[int, Float[Tensor, "b n d_mlp"]]:
    """Per layer, the gradient of `metric(logits)` (a scalar) by the activation at `hook_post`, at every token."""
    probes: dict[int, Tensor] = {}

    def probe(layer: int) -> Any:
        def add(x: Tensor, hook: Any = None) -> Tensor:
            # Weights are frozen, so the graph starts at a zero that is added here.
            probes[layer] = torch.zeros_like(x, requires_grad=True)
            return x + probes[layer]

        return add

    probing = [(models.hook_name(model, layer, "post"), probe(layer)) for layer in layers]
    with temporary_hooks(model, probing), torch.enable_grad():
        logits = inference.forward_batch(model, batch, grad=True)
        assert logits is not None
        found = torch.autograd.grad(metric(logits), [probes[layer] for layer in layers])
    return {layer: g.detach() for layer, g in zip(layers, found, strict=True)}
