"""Exact decomposition: the residual stream as a sum of embedding, heads, neurons and biases, read by a linear map.

After the last block the stream is `x = embed + sum_heads z_h W_O + sum_neurons h_k W_out[k] + biases`. With each token's
own norm scale s held at the value it has, everything that follows is linear, so a logit difference (and, in front of an
MLP, a neuron's pre-activation) is the sum of one number per part, with nothing left over: direct logit attribution
(Elhage et al. 2021) carried to the last neuron and bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.attribution.direct import divisor, readout
from neva_tl.core.errors import InputError
from neva_tl.models import inference
from neva_tl.models.hooks import record_hooks
from neva_tl.prompts.example import Example

At = Literal["last", "answer"]
#: Relative error from which on the parts do not make up the stream: the architecture does something else in between.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Decomposition:
    """One number per part of the stream and read token; `total()` equals `target` up to rounding.

    Attributes:
        embed: what the embedding (and learned positions) gives, `[n]`.
        heads: `[n, n_layers, n_heads]`.
        neurons: `[n, n_layers, d_mlp]`; for a pre-activation, parts of layers that cannot reach it are 0.
        biases: attention's and the MLP's output bias per layer, `[n, n_layers, 2]`.
        constant: what no part of the stream carries (the norm's bias, the reader's own bias), `[n]`.
        target: the number that the model itself computes, `[n]`.
    """

    embed: Float[Tensor, " n"]
    heads: Float[Tensor, "n n_layers n_heads"]
    neurons: Float[Tensor, "n n_layers d_mlp"]
    biases: Float[Tensor, "n n_layers 2"]
    constant: Float[Tensor, " n"]
    target: Float[Tensor, " n"]

    def _flat(self) -> list[Tensor]:
        parts = (self.embed, self.heads, self.neurons, self.biases, self.constant)
        return [part.double().reshape(len(self.embed), -1) for part in parts]

    def total(self) -> Float[Tensor, " n"]:
        """Sum of all parts (float64)."""
        return torch.stack([part.sum(dim=1) for part in self._flat()]).sum(dim=0)

    def absolute(self) -> Float[Tensor, " n"]:
        """Sum of the parts' absolute values: what rounding errors are measured against."""
        return torch.stack([part.abs().sum(dim=1) for part in self._flat()]).sum(dim=0)

    def error(self) -> float:
        """Largest |total - target| over the read tokens, as a share of the sum of absolute parts."""
        return float(((self.total() - self.target.double()).abs() / self.absolute()).max())

    def table(self) -> pd.DataFrame:
        """Means over the read tokens, largest first: columns kind (embed, head, neuron, bias, constant), layer, index,
        contribution.
        """
        rows: list[tuple[str, float, float, float]] = [("embed", np.nan, np.nan, float(self.embed.mean()))]
        for kind, part in (("head", self.heads), ("neuron", self.neurons), ("bias", self.biases)):
            mean = part.double().mean(dim=0).cpu().numpy()
            layers, index = np.indices(mean.shape)
            found = zip(layers.ravel(), index.ravel(), mean.ravel(), strict=True)
            rows += [(kind, float(layer), float(place), float(x)) for layer, place, x in found if x]
        rows.append(("constant", np.nan, np.nan, float(self.constant.mean())))
        table = pd.DataFrame(rows, columns=["kind", "layer", "index", "contribution"])
        return table.sort_values("contribution", key=np.abs, ascending=False, kind="stable").reset_index(drop=True)

    def show(self, most: int = 20) -> Any:
        """The largest parts, as a matplotlib figure."""
        from neva_tl.plots.intervals import interval_plot

        table = self.table().head(most)
        names = [
            kind if np.isnan(layer) else f"{kind} L{layer:.0f}.{index:.0f}"
            for kind, layer, index in zip(table["kind"], table["layer"], table["index"], strict=True)
        ]
        rows = table.assign(label=names, est=table["contribution"], lo=table["contribution"], hi=table["contribution"])
        return interval_plot(rows, title="Largest parts", axis="contribution", guide=0.0)

    def _repr_html_(self) -> str:
        from neva_tl.core.cards import card

        facts = {"tokens read": len(self.target), "target, mean": float(self.target.mean()), "error": self.error()}
        return card("Decomposition, largest parts first", facts, self.table())


def logit_attribution(
    model: models.Model,
    examples: Sequence[Example],
    positive: Sequence[int],
    negative: Sequence[int] = (),
    *,
    at: At = "last",
    chat: bool | None = None,
) -> Decomposition:
    """Mean logit of the positive tokens minus that of the negative ones, split over everything that wrote the stream.

    Args:
        positive: token ids.
        negative: token ids; none of them means the whole vocabulary (the logit against the average token).
        at: read the logits behind each example's last token, or behind each of its answer tokens.
        chat: as in `inference.encode`.

    Logits are those before a soft cap (Gemma 2).

    Raises:
        InputError: no examples or tokens, or a model whose blocks do more than add to the stream (post-norms).
    """
    if not len(positive):
        raise InputError("logit attribution needs at least one positive token")
    facts = models.info(model)
    chosen = [*positive, *negative]
    read = readout(model, chosen, centred=not len(negative))
    reader = read[:, : len(positive)].mean(dim=1)
    if len(negative):
        reader = reader - read[:, len(positive) :].mean(dim=1)
    kind, _, bias, eps = models.final_norm(model)
    offset = models.b_u(model).detach().float()
    if bias is not None:
        offset = offset + bias.detach().float() @ models.w_u(model).detach().float()
    constant = _difference(offset, positive, negative)
    out = []
    for _, batch in inference.batches(model, examples, chat=chat):
        seen, logits = _watch(model, batch, range(facts.n_layers))
        rows = read_mask(batch, at)
        final = seen[models.hook_name(model, facts.n_layers - 1, "resid_post")][rows].float()
        scale = divisor(final, kind, eps)
        parts = _parts(model, seen, rows, reader[:, None], scale, facts.n_layers, facts.n_layers)
        _check(model, seen, rows, final, facts.n_layers, facts.n_layers)
        own = _difference(_uncapped(model, logits[rows].double()), positive, negative)
        out.append((*(part[..., 0] for part in parts), constant.expand(len(final)), own))
    return Decomposition(*(torch.cat(column) for column in zip(*_some(out), strict=True)))


def pre_activation(
    model: models.Model,
    examples: Sequence[Example],
    layer: int,
    neuron: int,
    *,
    site: Literal["pre", "up"] = "pre",
    at: At = "last",
    chat: bool | None = None,
) -> Decomposition:
    """A neuron's pre-activation, split over everything that its MLP reads: embedding, earlier neurons, heads up to its own
    layer.

    Args:
        site: `pre` (what the activation function is applied to) or `up` (gated MLPs: what the gate multiplies).
        at, chat: as in `logit_attribution`.

    Raises:
        InputError: as `logit_attribution`; a layer or neuron that does not exist.
    """
    facts = models.info(model)
    name = models.hook_name(model, layer, site)
    if not 0 <= neuron < facts.d_mlp:
        raise InputError(f"neuron {neuron} does not exist: d_mlp is {facts.d_mlp}")
    weights, offset = mlp_reader(model, layer, [neuron], site)
    kind, _, _, eps = models.mlp_norm(model, layer)
    deep = layer if models.parallel_blocks(model) else layer + 1
    out = []
    for _, batch in inference.batches(model, examples, chat=chat):
        seen, _ = _watch(model, batch, range(layer + 1), name)
        rows = read_mask(batch, at)
        stream = stream_sum(model, seen, rows, deep, layer)
        scale = divisor(stream, kind, eps)
        parts = _parts(model, seen, rows, weights, scale, deep, layer)
        own = seen[name][rows][:, neuron].float()
        found = (*(part[..., 0] for part in parts), offset.expand(len(own)), own)
        out.append(found)
    made = Decomposition(*(torch.cat(column) for column in zip(*_some(out), strict=True)))
    if made.error() > TOLERANCE:
        raise _refusal(model)
    return made


def mlp_reader(
    model: models.Model, layer: int, neurons: Sequence[int], site: Literal["pre", "up"]
) -> tuple[Float[Tensor, "d_model n_neurons"], Float[Tensor, " n_neurons"]]:
    """The linear map `C diag(w) W` from the stream (divided by the norm's scale) to pre-activations, and its offset."""
    gated = models.info(model).gated
    weight = models.w_gate(model, layer) if gated and site == "pre" else models.w_in(model, layer)
    bias = models.biases(model, layer)["b_gate" if gated and site == "pre" else "b_in"]
    assert weight is not None
    index = torch.as_tensor(list(neurons), dtype=torch.long, device=weight.device)
    kind, scaling, norm_bias, _ = models.mlp_norm(model, layer)
    chosen = weight.detach().float()[:, index]
    offset = bias.detach().float()[index]
    if norm_bias is not None:
        offset = offset + norm_bias.detach().float() @ chosen
    read = scaling.detach().float()[:, None] * chosen
    return (read - read.mean(dim=0, keepdim=True) if kind == "layernorm" else read), offset


def read_mask(batch: inference.Batch, at: str) -> Tensor:
    """Which tokens are read: each row's last, or its answer tokens."""
    if at == "answer":
        return batch.answer
    places = torch.arange(batch.mask.shape[1], device=batch.mask.device)
    return places == torch.where(batch.mask, places, -1).amax(dim=1, keepdim=True)


def stream_sum(
    model: models.Model, seen: Mapping[str, Tensor], rows: Tensor, heads_below: int, neurons_below: int
) -> Float[Tensor, "n d_model"]:
    """The stream put together from its parts: heads of layers below one bound, neurons of layers below the other."""
    x = seen[models.hook_name(model, 0, "resid_pre")][rows].float()
    for layer in range(max(heads_below, neurons_below)):
        extra = models.biases(model, layer)
        if layer < heads_below:
            z = seen[models.hook_name(model, layer, "z")][rows].float()
            x = x + torch.einsum("nhc,hcd->nd", z, models.w_o(model, layer).detach().float()) + extra["b_O"].detach()
        if layer < neurons_below:
            h = seen[models.hook_name(model, layer, "post")][rows].float()
            x = x + h @ models.w_out(model, layer).detach().float() + extra["b_out"].detach()
    return x


def _parts(
    model: models.Model,
    seen: Mapping[str, Tensor],
    rows: Tensor,
    reader: Float[Tensor, "d_model t"],
    scale: Float[Tensor, " n"],
    heads_below: int,
    neurons_below: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Embed `[n, t]`, heads `[n, l, h, t]`, neurons `[n, l, k, t]`, biases `[n, l, 2, t]`; 0 from the bounds on."""
    facts = models.info(model)
    n, wide = len(scale), reader.shape[1]
    by = scale[:, None]
    embed = seen[models.hook_name(model, 0, "resid_pre")][rows].float() @ reader / by
    heads = embed.new_zeros(n, facts.n_layers, facts.n_heads, wide)
    neurons = embed.new_zeros(n, facts.n_layers, facts.d_mlp, wide)
    biases = embed.new_zeros(n, facts.n_layers, 2, wide)
    for layer in range(max(heads_below, neurons_below)):
        extra = models.biases(model, layer)
        if layer < heads_below:
            z = seen[models.hook_name(model, layer, "z")][rows].float()
            out = models.w_o(model, layer).detach().float() @ reader  # [h, c, t]
            heads[:, layer] = torch.einsum("nhc,hct->nht", z, out) / by[..., None]
            biases[:, layer, 0] = (extra["b_O"].detach().float() @ reader) / by
        if layer < neurons_below:
            h = seen[models.hook_name(model, layer, "post")][rows].float()
            neurons[:, layer] = h[..., None] * (models.w_out(model, layer).detach().float() @ reader) / by[..., None]
            biases[:, layer, 1] = (extra["b_out"].detach().float() @ reader) / by
    return embed, heads, neurons, biases


def _watch(
    model: models.Model, batch: inference.Batch, layers: Sequence[int], *more: str
) -> tuple[dict[str, Tensor], Float[Tensor, "b n d_vocab"]]:
    """Activations that the decomposition needs, by hook name, and the logits."""
    last = models.info(model).n_layers - 1
    names = [models.hook_name(model, 0, "resid_pre"), models.hook_name(model, last, "resid_post"), *more]
    names += [models.hook_name(model, layer, site) for layer in layers for site in ("z", "post")]
    with record_hooks(model, names) as seen:
        logits = inference.forward_batch(model, batch)
    assert logits is not None
    return seen, logits


def _check(
    model: models.Model, seen: Mapping[str, Tensor], rows: Tensor, final: Tensor, heads: int, neurons: int
) -> None:
    gap = (stream_sum(model, seen, rows, heads, neurons) - final).norm() / final.norm()
    if float(gap) > TOLERANCE:
        raise _refusal(model)


def _refusal(model: models.Model) -> InputError:
    return InputError(
        f"the parts of {models.info(model).name} do not add up to its residual stream: its blocks normalise or scale "
        "what they write, so there is no exact decomposition; measured effects (ablation_effects) work there"
    )


def _difference(logits: Tensor, positive: Sequence[int], negative: Sequence[int]) -> Tensor:
    against = logits[..., list(negative)].mean(dim=-1) if len(negative) else logits.mean(dim=-1)
    return logits[..., list(positive)].mean(dim=-1) - against


def _uncapped(model: models.Model, logits: Tensor) -> Tensor:
    cap = models.logit_soft_cap(model)
    return cap * torch.atanh(logits / cap) if cap > 0 else logits


def _some(batches: list[Any]) -> list[Any]:
    if not batches:
        raise InputError("nothing to attribute: give at least one example")
    return batches
