"""Direct logit attribution: what a neuron adds to each token's logit by its own output weights.

With the last norm's scale s frozen, logits are linear in the residual stream:

    logits = (C x / s * w + b_norm) W_U + b_U,    C = I for RMSNorm, C = I - 11'/d for LayerNorm,

so a part x_c of the stream (an attention output, a neuron's `h_k W_out[k]`) adds exactly `x_c C diag(w) W_U / s`. This
is the usual direct logit attribution (nostalgebraist's logit lens, Elhage et al. 2021), without compatibility mode. A
soft cap on the logits (Gemma 2) comes after it and is not linear: attributions are before the cap.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.models.hooks import record_hooks
from neva_tl.prompts.example import Example


def readout(
    model: models.Model, tokens: Sequence[int] | None = None, *, scale: float = 1.0, centred: bool = True
) -> Float[Tensor, "d_model n_tokens"]:
    """The linear map `C diag(w) W_U / scale` from the residual stream to logits.

    Args:
        tokens: token ids; all of the vocabulary by default.
        scale: the frozen scale of the last norm (see `frozen_scale`). 1 gives logits times the stream's own scale:
            ratios and signs are right, sizes are not in logits.
        centred: subtract the mean over the whole vocabulary, which no softmax sees: the result is the change of a
            token's logit against the average token.

    Raises:
        InputError: a token id outside the vocabulary, or a scale that is not positive.
    """
    if not scale > 0:
        raise InputError(f"the frozen scale of the final norm must be positive, not {scale}")
    unembed = models.w_u(model).detach().float()
    kind, weight, _, _ = models.final_norm(model)
    whole = weight.detach().float()[:, None] * unembed
    chosen = whole if tokens is None else whole[:, _token_index(tokens, whole)]
    if centred:
        chosen = chosen - whole.mean(dim=1, keepdim=True)
    if kind == "layernorm":
        chosen = chosen - chosen.mean(dim=0, keepdim=True)
    return chosen / scale


def _token_index(tokens: Sequence[int], whole: Tensor) -> Tensor:
    index = torch.as_tensor(list(tokens), dtype=torch.long, device=whole.device)
    if len(index) and (int(index.min()) < 0 or int(index.max()) >= whole.shape[1]):
        raise InputError(f"token ids must lie in 0..{whole.shape[1] - 1}: got {int(index.min())}..{int(index.max())}")
    return index


def direct_logits(
    model: models.Model,
    neurons: NeuronSet,
    tokens: Sequence[int] | None = None,
    *,
    scale: float = 1.0,
    centred: bool = True,
) -> Float[Tensor, "n_neurons n_tokens"]:
    """Logit change by the direct path when each neuron moves from its mean on the - pole to its mean on the + pole.

    `(mean_plus_k - mean_minus_k) * W_out[k] @ readout`: everything between the neuron's layer and the logits, and the
    final norm's scale, held fixed. Later layers that read the neuron are left out: see `gradient_effects` for those.

    Args:
        neurons: a set at site `post`; rows of the result are in its order.
        tokens, scale, centred: see `readout`.

    Raises:
        InputError: a set at another site (what it writes depends on the up branch too), or of another model's sizes.
    """
    if neurons.site != "post":
        raise InputError(f"direct attribution needs neurons at site 'post': this set is at {neurons.site!r}")
    facts = models.info(model)
    if (neurons.n_layers, neurons.d_mlp) != (facts.n_layers, facts.d_mlp):
        raise InputError(
            f"the neuron set is of a model with {neurons.n_layers} layers of {neurons.d_mlp} neurons: "
            f"{facts.name} has {facts.n_layers} of {facts.d_mlp}"
        )
    read = readout(model, tokens, scale=scale, centred=centred)
    out = torch.zeros(len(neurons), read.shape[1], device=read.device)
    for layer in neurons.layers:
        mine = (neurons.df["layer"] == layer).to_numpy()
        rows = neurons.df[mine]
        delta = torch.tensor((rows["mean_plus"] - rows["mean_minus"]).tolist(), device=read.device)
        index = torch.tensor(rows["neuron"].tolist(), device=read.device)
        written = models.w_out(model, layer).detach().float()[index]
        out[torch.tensor(mine.nonzero()[0].tolist(), device=read.device)] = (delta[:, None] * written) @ read
    return out


def frozen_scale(model: models.Model, examples: Sequence[Example], *, chat: bool | None = None) -> float:
    """The final norm's divisor, averaged over the examples' answer tokens: the scale at which attributions are in
    logits.

    RMSNorm: `sqrt(mean(x^2) + eps)`; LayerNorm: `sqrt(var(x) + eps)`; no norm: 1. x is the residual stream after the
        last block.

    Raises:
        InputError: no examples, or one without answer tokens only.
    """
    from neva_tl.models import inference

    kind, _, _, eps = models.final_norm(model)
    if kind == "none":
        return 1.0
    name = models.hook_name(model, models.info(model).n_layers - 1, "resid_post")
    total, count = 0.0, 0
    for _, batch in inference.batches(model, examples, chat=chat):
        with record_hooks(model, [name]) as seen:
            inference.forward_batch(model, batch, logits=False)
        total_batch = divisor(seen[name].float(), kind, eps)[batch.answer]
        total += float(total_batch.sum())
        count += int(total_batch.numel())
    if not count:
        raise InputError("no answer tokens in the examples: the final norm's scale cannot be measured")
    return total / count


def divisor(x: Float[Tensor, "*rows d_model"], kind: str, eps: float) -> Float[Tensor, "*rows"]:
    """What the final norm divides each vector by (`rms`, `layernorm`; 1 for `none`)."""
    if kind == "none":
        return torch.ones_like(x[..., 0])
    if kind == "layernorm":
        x = x - x.mean(dim=-1, keepdim=True)
    return (x.pow(2).mean(dim=-1) + eps).sqrt()
