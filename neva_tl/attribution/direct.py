"""Direct logit attribution: the contribution of a neuron's output weights to each token's logit.

With the last norm's scale s frozen, logits are linear in the residual stream:

    logits = a ((C x / s * w + b_norm) W_U + b_U),    C = I for RMSNorm, C = I - 11'/d for LayerNorm,

so a component x_c of the stream (an attention output, a neuron's `h_k W_out[k]`) adds exactly `a x_c C diag(w) W_U / s`.
a is 1 but for models that scale their logits (Cohere, Granite). Where a norm follows the MLP (Gemma 2, OLMo 2), a neuron
adds its normalised output, with that norm's scale frozen too (`outputs`).
This is the usual direct logit attribution (nostalgebraist's logit lens, Elhage et al. 2021), without compatibility mode.
A soft cap on the logits (Gemma 2) follows it and is not linear: attributions refer to the logits before the cap.
Each function compares its reading of the weights with the model's own pass once per model and refuses what differs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.attribution.outputs import divisor, scales_of, written
from neva_tl.attribution.self_check import check_writes
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.models.hooks import record_hooks
from neva_tl.prompts.example import Example


@check_arguments
def readout(
    model: models.Model, tokens: Sequence[int] | None = None, *, scale: float = 1.0, centred: bool = True
) -> Float[Tensor, "d_model n_tokens"]:
    """Return the linear map `a C diag(w) W_U / scale` from the residual stream to logits.

    Args:
        model: A TransformerLens model.
        tokens: Token ids; the whole vocabulary by default.
        scale: Frozen scale of the last norm (see `frozen_scale`). 1 gives logits times the scale of the stream: ratios
            and signs are right, but the unit is not the logit.
        centred: Subtract the mean over the whole vocabulary, which does not affect a softmax: the result is the change
            of a token's logit relative to the average token.

    Raises:
        InputError: A token id outside the vocabulary, a scale that is not positive, or a model whose output head does more.

    Example:
        >>> tuple(nv.attribution.readout(model, tokens=[5, 9]).shape)
        (128, 2)
    """
    if not scale > 0:
        raise InputError(f"the frozen scale of the final norm must be positive, not {scale}")
    unembed = models.w_u(model).detach().float()
    kind, weight, _, _ = models.final_norm(model)
    full = models.logit_scale(model) * weight.detach().float()[:, None] * unembed
    columns = full if tokens is None else full[:, _token_index(tokens, full)]
    if centred:
        columns = columns - full.mean(dim=1, keepdim=True)
    if kind == "layernorm":
        columns = columns - columns.mean(dim=0, keepdim=True)
    return columns / scale


def _token_index(tokens: Sequence[int], full: Tensor) -> Tensor:
    index = torch.as_tensor(list(tokens), dtype=torch.long, device=full.device)
    if len(index) and (int(index.min()) < 0 or int(index.max()) >= full.shape[1]):
        raise InputError(f"token ids must lie in 0..{full.shape[1] - 1}: got {int(index.min())}..{int(index.max())}")
    return index


@check_arguments
def direct_logits(
    model: models.Model,
    neurons: NeuronSet,
    tokens: Sequence[int] | None = None,
    *,
    scale: float = 1.0,
    centred: bool = True,
    output_scales: Sequence[float] | None = None,
) -> Float[Tensor, "n_neurons n_tokens"]:
    """Return the direct effect on logits when each neuron moves from its - mean to its + mean.

    The effect is `(mean_plus_k - mean_minus_k) * W_out[k] @ readout`, with the later layers and the scales of norms fixed.
    For effects through later layers, see `gradient_effects`.

    Args:
        model: A TransformerLens model.
        neurons: A set at site `post`; the rows of the result are in its order.
        tokens: Token ids; the whole vocabulary by default.
        scale: Frozen scale of the last norm (see `readout`).
        centred: Subtract the mean over the whole vocabulary (see `readout`).
        output_scales: Frozen scale of the norm after each layer's MLP, from the function `output_scales`; needed where the
            model has such norms.

    Raises:
        InputError: A set at another site (its output also depends on the up branch), or of a model of other sizes; output
            scales are missing; or what the model's neurons write does not add up to its stream or its logits.

    Example:
        >>> tuple(nv.attribution.direct_logits(model, neurons, tokens=[5, 9]).shape) == (len(neurons), 2)
        True
    """
    if neurons.site != "post":
        raise InputError(f"direct attribution needs neurons at site 'post': this set is at {neurons.site!r}")
    facts = models.info(model)
    if (neurons.n_layers, neurons.d_mlp) != (facts.n_layers, facts.d_mlp):
        raise InputError(
            f"the neuron set belongs to a model with {neurons.n_layers} layers of {neurons.d_mlp} neurons, "
            f"but {facts.name} has {facts.n_layers} layers of {facts.d_mlp}"
        )
    check_writes(model)
    divisors = scales_of(model, output_scales)
    read = readout(model, tokens, scale=scale, centred=centred)
    out = torch.zeros(len(neurons), read.shape[1], device=read.device)
    for layer in neurons.layers:
        in_layer = (neurons.df["layer"] == layer).to_numpy()
        rows = neurons.df[in_layer]
        delta = torch.tensor((rows["mean_plus"] - rows["mean_minus"]).tolist(), device=read.device)
        index = torch.tensor(rows["neuron"].tolist(), device=read.device)
        rows_out = written(model, layer)[index] / divisors[layer]
        out[torch.tensor(in_layer.nonzero()[0].tolist(), device=read.device)] = (delta[:, None] * rows_out) @ read
    return out


@check_arguments
def frozen_scale(model: models.Model, examples: Sequence[Example], *, chat: bool | None = None) -> float:
    """Return the final norm's divisor, averaged over the answer tokens of the examples.

    With this scale, attributions are in logits. RMSNorm: `sqrt(mean(x^2) + eps)`; LayerNorm: `sqrt(var(x) + eps)`; no
    norm: 1. x is the residual stream after the last block.

    Args:
        model: A TransformerLens model.
        examples: The texts.
        chat: Force or forbid the chat template; None uses it where the tokenizer has one.

    Raises:
        InputError: No examples, or examples without answer tokens.

    Example:
        >>> nv.attribution.frozen_scale(model, pairs.examples()[:4]) > 0
        True
    """
    from neva_tl.models import inference

    kind, _, _, eps = models.final_norm(model)
    if kind == "none":
        return 1.0
    name = models.hook_name(model, models.info(model).n_layers - 1, "resid_post")
    total, count = 0.0, 0
    for _, batch in inference.batches(model, examples, chat=chat):
        with record_hooks(model, [name]) as activations:
            inference.forward_batch(model, batch, logits=False)
        scales = divisor(activations[name].float(), kind, eps)[batch.answer]
        total += float(scales.sum())
        count += int(scales.numel())
    if not count:
        raise InputError("no answer tokens in the examples: the final norm's scale cannot be measured")
    return total / count
