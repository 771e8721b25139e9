"""Gradient effects: first-order effects of neurons on value tokens by all paths, including later layers.

Autograd differentiates the model's own pass, so that no operation is left out by design. Once per model in float32, the gradient
is compared with a finite difference of the same pass, which also catches hooks off the path to the logits and activations
without a slope. In half precision a finite difference is rounding noise; the gradient must be finite there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.models import inference
from neva_tl.models.checkpoint import trial_tokens
from neva_tl.models.facts import MEMO, weight_check_key
from neva_tl.models.hooks import temporary_hooks
from neva_tl.prompts.example import Example


@check_arguments
def gradient_effects(
    model: models.Model,
    neurons: NeuronSet,
    examples: Sequence[Example],
    tokens: Sequence[int],
    *,
    chat: bool | None = None,
    token_budget: int = 2048,
) -> Float[np.ndarray, " n_neurons"]:
    """Return the first-order effect on the tokens' mean log-probability as each neuron moves from - to + mean.

    The effect is `delta_k * sum_p dm/dh_k[p]`, averaged over examples, where p runs over answer tokens and m is the mean
    over answer tokens of the mean of log P(token | text so far). This is the linear estimate of the effect of a Shift of
    dose 1 on answer tokens (attribution patching with the mean difference as the patch; Nanda 2023). It ignores
    curvature: check large effects by editing.

    Args:
        model: A TransformerLens model.
        neurons: Neurons at site `post`.
        examples: The texts; the effect is measured at their answer tokens.
        tokens: Token ids, for example of one value (`value_tokens`).
        chat: Force or forbid the chat template; None uses it where the tokenizer has one.
        token_budget: Padded tokens of a batch (the backward pass stores the activations of all layers).

    Raises:
        InputError: No tokens, no examples, neurons at another site, or a gradient that is not the model's slope.
        WorkError: A gradient is not finite.

    Example:
        >>> effects = nv.attribution.gradient_effects(model, neurons, pairs.examples()[:4], tokens=[5, 9])
        >>> effects.shape == (len(neurons),)
        True
    """
    if not len(tokens) or not len(examples):
        raise InputError("gradient effects need at least one token and one example")
    if neurons.site != "post":
        raise InputError(f"gradient effects need neurons at site 'post': this set is at {neurons.site!r}")
    layers, indices = neurons.df["layer"].to_numpy(dtype=int), neurons.df["neuron"].to_numpy(dtype=int)
    total = np.zeros(len(neurons))
    for _, batch in inference.batches(model, examples, token_budget=token_budget, chat=chat):
        gradients = _gradients(model, batch, list(tokens), neurons.layers)
        for i, (layer, neuron) in enumerate(zip(layers, indices, strict=True)):
            total[i] += float(gradients[int(layer)][int(neuron)])
    if not np.isfinite(total).all():
        raise WorkError("the gradient of the tokens' log-probability is not finite: try dtype float32")
    delta = (neurons.df["mean_plus"] - neurons.df["mean_minus"]).to_numpy(dtype=float)
    return delta * total / len(examples)


#: Largest relative error of the gradient against a finite difference in float32.
SLOPE_TOLERANCE = 0.05


def _gradients(
    model: models.Model, batch: inference.Batch, tokens: list[int], layers: Sequence[int]
) -> dict[int, Float[Tensor, " d_mlp"]]:
    """Return per layer the gradient of the batch's summed metric, summed over answer tokens."""

    def metric(logits: Tensor) -> Tensor:
        picked = torch.log_softmax(logits.float(), dim=-1)[..., tokens].mean(dim=-1)
        weight = batch.answer / batch.answer.sum(dim=1, keepdim=True).clamp_min(1)
        return (picked * weight).sum()

    answer = batch.answer[..., None]
    return {layer: (g * answer).sum(dim=(0, 1)) for layer, g in layer_probes(model, batch, layers, metric).items()}


def layer_probes(
    model: models.Model, batch: inference.Batch, layers: Sequence[int], metric: Callable[[Tensor], Tensor]
) -> dict[int, Float[Tensor, "b n d_mlp"]]:
    """Return per layer the gradient of a metric with respect to the activation at `hook_post`, at every token.

    Args:
        model: A TransformerLens model.
        batch: The batch.
        layers: Layers to differentiate by.
        metric: Maps the logits to a scalar.

    Raises:
        InputError: The gradient differs from a finite difference (float32, once per model).
    """
    if not models.has_hooks(model):
        check_gradient(model)
    return _layer_gradients(model, batch, layers, metric)


def check_gradient(model: models.Model) -> None:
    """Check the gradient against a finite difference along itself, in all layers at once, on a few tokens.

    Three passes, once per model; nothing in half precision.

    Args:
        model: A TransformerLens model.

    Raises:
        InputError: They differ; the message says by how much.
    """
    key = weight_check_key(model, "gradient")
    error: float = MEMO.get(model, key, lambda: _gradient_error(model))
    if not error <= SLOPE_TOLERANCE:
        facts = models.info(model)
        raise InputError(
            f"the gradient of the logits of {facts.name} ({facts.architecture}) in its neurons is off by {error:.2g} of a finite "
            "difference: some operation hides its slope; use measured effects (ablation_effects)"
        )


def _gradient_error(model: models.Model) -> float:
    """Relative difference of the gradient's squared norm and the slope along the gradient; 0 in half precision."""
    parameter = next(model.parameters())
    if parameter.dtype not in (torch.float32, torch.float64):
        return 0.0
    facts = models.info(model)
    tokens = trial_tokens(facts.d_vocab, parameter.device)[:1]
    batch = inference.Batch(
        tokens, torch.ones_like(tokens, dtype=torch.bool), torch.ones_like(tokens, dtype=torch.bool)
    )

    def metric(logits: Tensor) -> Tensor:
        # two tokens apart in the vocabulary, at the last position
        return (logits[0, -1, 1].double() - logits[0, -1, facts.d_vocab // 2].double()).sum()

    try:
        gradients = _layer_gradients(model, batch, range(facts.n_layers), metric)
    except RuntimeError:  # some layer's neurons are not on the path to the logits
        return float("inf")
    squared = sum(float(g.double().pow(2).sum()) for g in gradients.values())
    if not squared > 0:
        return float("inf")

    def moved(step: float) -> float:
        def shift(layer: int) -> Callable[..., Tensor]:
            return lambda x, **_: x + step * gradients[layer].to(x.dtype)

        shifts = [(models.hook_name(model, layer, "post"), shift(layer)) for layer in gradients]
        with temporary_hooks(model, shifts):
            logits = inference.forward_batch(model, batch)
        assert logits is not None
        return float(metric(logits))

    # the best of several steps: too small a step is rounding, too large a one curvature
    errors = []
    for size in (1e-1, 1e-2, 1e-3):
        step = size / squared**0.5
        errors.append(abs((moved(step) - moved(-step)) / (2 * step) - squared) / squared)
        if errors[-1] <= SLOPE_TOLERANCE / 2:
            break
    return min(errors)


def _layer_gradients(
    model: models.Model, batch: inference.Batch, layers: Sequence[int], metric: Callable[[Tensor], Tensor]
) -> dict[int, Float[Tensor, "b n d_mlp"]]:
    probes: dict[int, Tensor] = {}

    def probe(layer: int) -> Any:
        def add(x: Tensor, **_: Any) -> Tensor:
            # the weights require no gradient, so the graph starts at a zero that is added here
            probes[layer] = torch.zeros_like(x, requires_grad=True)
            return x + probes[layer]

        return add

    probing = [(models.hook_name(model, layer, "post"), probe(layer)) for layer in layers]
    with temporary_hooks(model, probing), torch.enable_grad():
        logits = inference.forward_batch(model, batch, grad=True)
        assert logits is not None
        gradients = torch.autograd.grad(metric(logits), [probes[layer] for layer in layers])
    return {layer: g.detach() for layer, g in zip(layers, gradients, strict=True)}
