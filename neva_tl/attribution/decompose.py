"""Exact decomposition of a linear readout of the residual stream into embedding, heads, neurons and biases.

After the last block the stream is `x = embed + sum_heads z_h W_O + sum_neurons h_k W_out[k] + biases`, where blocks may
normalise or scale outputs before they add them (`outputs`). With the divisor of each norm at each token frozen, the rest of
the model is linear. A logit difference (or, before an MLP, a neuron's pre-activation) is then exactly the sum of one number
per component: direct logit attribution (Elhage et al. 2021) down to the single neuron and bias. What does not add up to the
model's own number is refused.
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
from neva_tl.attribution.direct import readout
from neva_tl.attribution.outputs import OutputMap, attn_output, divisor, mlp_output, written
from neva_tl.attribution.reads import mlp_reader
from neva_tl.attribution.self_check import check_blocks, check_reads, refusal, tolerance
from neva_tl.core.arguments import check_arguments
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.models import inference
from neva_tl.models.hooks import record_hooks
from neva_tl.prompts.example import Example

At = Literal["last", "answer"]


@dataclass(frozen=True)
class Decomposition:
    """Contributions of all components at each read token; `total()` equals `target` up to rounding.

    Attributes:
        embed: Contribution of the embedding (and learned positions), `[n]`.
        heads: Contributions of attention heads, `[n, n_layers, n_heads]`.
        neurons: Contributions of neurons, `[n, n_layers, d_mlp]`; for a pre-activation, those of later layers are 0.
        biases: Contributions of the output biases of attention, MLP and their output norms, `[n, n_layers, 2]`.
        constant: Terms that do not depend on the stream (the bias of the norm, the bias of the readout), `[n]`.
        target: The number that the model computes, `[n]`.

    Example:
        >>> tokens = nv.models.tokenizer(model)(" kindness fame", add_special_tokens=False)["input_ids"]
        >>> parts = nv.attribution.logit_attribution(model, [nv.Example("", "mara says that")], tokens[:1], tokens[1:])
        >>> parts.error() < 1e-3, parts.table().columns.tolist()
        (True, ['kind', 'layer', 'index', 'contribution'])
    """

    embed: Float[Tensor, " n"]
    heads: Float[Tensor, "n n_layers n_heads"]
    neurons: Float[Tensor, "n n_layers d_mlp"]
    biases: Float[Tensor, "n n_layers 2"]
    constant: Float[Tensor, " n"]
    target: Float[Tensor, " n"]

    __repr__ = brief

    def _flat(self) -> list[Tensor]:
        terms = (self.embed, self.heads, self.neurons, self.biases, self.constant)
        return [term.double().reshape(len(self.embed), -1) for term in terms]

    def total(self) -> Float[Tensor, " n"]:
        """Return the sum of all contributions (float64)."""
        return torch.stack([term.sum(dim=1) for term in self._flat()]).sum(dim=0)

    def absolute(self) -> Float[Tensor, " n"]:
        """Return the sum of the absolute contributions, the scale of rounding errors (float64)."""
        return torch.stack([term.abs().sum(dim=1) for term in self._flat()]).sum(dim=0)

    def error(self) -> float:
        """Return the largest |total - target| over the read tokens, relative to `absolute()`."""
        return float(((self.total() - self.target.double()).abs() / self.absolute()).max())

    def table(self) -> pd.DataFrame:
        """Return the mean contributions over the read tokens, largest first.

        Returns:
            Columns kind (embed, head, neuron, bias, constant), layer, index, contribution.
        """
        rows: list[tuple[str, float, float, float]] = [("embed", np.nan, np.nan, float(self.embed.mean()))]
        for kind, terms in (("head", self.heads), ("neuron", self.neurons), ("bias", self.biases)):
            mean = terms.double().mean(dim=0).cpu().numpy()
            layers, index = np.indices(mean.shape)
            cells = zip(layers.ravel(), index.ravel(), mean.ravel(), strict=True)
            rows += [(kind, float(layer), float(i), float(x)) for layer, i, x in cells if x]
        rows.append(("constant", np.nan, np.nan, float(self.constant.mean())))
        table = pd.DataFrame(rows, columns=["kind", "layer", "index", "contribution"])
        return table.sort_values("contribution", key=np.abs, ascending=False, kind="stable").reset_index(drop=True)

    def show(self, most: int = 20) -> Any:
        """Draw the largest contributions with matplotlib.

        Args:
            most: Number of contributions.
        """
        from neva_tl.plots.intervals import interval_plot

        table = self.table().head(most)
        names = [
            kind if np.isnan(layer) else f"{kind} L{layer:.0f}.{index:.0f}"
            for kind, layer, index in zip(table["kind"], table["layer"], table["index"], strict=True)
        ]
        rows = table.assign(label=names, est=table["contribution"], lo=table["contribution"], hi=table["contribution"])
        return interval_plot(rows, title="Largest contributions", axis="contribution", guide=0.0)

    def _repr_html_(self) -> str:
        from neva_tl.core.cards import card

        facts = {"tokens read": len(self.target), "target, mean": float(self.target.mean()), "error": self.error()}
        return card("Decomposition, largest contributions first", facts, self.table())


@check_arguments
def logit_attribution(
    model: models.Model,
    examples: Sequence[Example],
    positive: Sequence[int],
    negative: Sequence[int] = (),
    *,
    at: At = "last",
    chat: bool | None = None,
) -> Decomposition:
    """Decompose the mean logit of the positive tokens minus that of the negative tokens.

    The logits are those before a soft cap (Gemma 2).

    Args:
        model: A TransformerLens model.
        examples: The texts.
        positive: Token ids.
        negative: Token ids; if empty, the whole vocabulary (the logit relative to the average token).
        at: Read the logits after each example's last token, or after each of its answer tokens.
        chat: Force or forbid the chat template; None uses it where the tokenizer has one.

    Raises:
        InputError: No examples or tokens, or components that do not add up to the model's own logits (see `self_check`).

    Example:
        >>> tokens = nv.models.tokenizer(model)(" kindness fame", add_special_tokens=False)["input_ids"]
        >>> parts = nv.attribution.logit_attribution(model, [nv.Example("", "mara says that")], tokens[:1], tokens[1:])
        >>> tuple(parts.heads.shape)  # texts, layers, heads
        (1, 4, 4)
    """
    if not len(positive):
        raise InputError("logit attribution needs at least one positive token")
    check_blocks(model)
    facts = models.info(model)
    tokens = [*positive, *negative]
    read = readout(model, tokens, centred=not len(negative))
    reader = read[:, : len(positive)].mean(dim=1)
    if len(negative):
        reader = reader - read[:, len(positive) :].mean(dim=1)
    kind, _, bias, eps = models.final_norm(model)
    offset = models.b_u(model).detach().float()
    if bias is not None:
        offset = offset + bias.detach().float() @ models.w_u(model).detach().float()
    constant = models.logit_scale(model) * _difference(offset, positive, negative)
    out = []
    for _, batch in inference.batches(model, examples, chat=chat):
        activations, logits = _record(model, batch, range(facts.n_layers))
        rows = read_mask(batch, at)
        final = activations[models.hook_name(model, facts.n_layers - 1, "resid_post")][rows].float()
        scale = divisor(final, kind, eps)
        terms = _terms(model, activations, rows, reader[:, None], scale, facts.n_layers, facts.n_layers)
        target = _difference(_uncapped(model, logits[rows], final), positive, negative)
        out.append((*(term[..., 0] for term in terms), constant.expand(len(final)), target))
    result = Decomposition(*(torch.cat(column) for column in zip(*_non_empty(out), strict=True)))
    _check(model, result, "the sum of all components' contributions to the logits")
    return result


@check_arguments
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
    """Decompose a neuron's pre-activation over the input of its MLP.

    The components are the embedding, the neurons of earlier layers, and the heads up to the neuron's layer.

    Args:
        model: A TransformerLens model.
        examples: The texts.
        layer: Layer of the neuron.
        neuron: Index of the neuron in its layer.
        site: `pre` (input of the activation function) or `up` (gated MLPs: the factor of the gate).
        at: Read each example's last token, or each of its answer tokens.
        chat: Force or forbid the chat template; None uses it where the tokenizer has one.

    Raises:
        InputError: As for `logit_attribution`; or the layer or neuron does not exist.

    Example:
        >>> parts = nv.attribution.pre_activation(model, [nv.Example("", "mara says that")], layer=2, neuron=7)
        >>> tuple(parts.neurons.shape), parts.error() < 1e-3
        ((1, 4, 384), True)
    """
    facts = models.info(model)
    name = models.hook_name(model, layer, site)
    check_blocks(model)
    check_reads(model)
    if not 0 <= neuron < facts.d_mlp:
        raise InputError(f"neuron {neuron} does not exist: d_mlp is {facts.d_mlp}")
    weights, offset = mlp_reader(model, layer, [neuron], site)
    kind, _, _, eps = models.mlp_norm(model, layer)
    heads_below = layer if models.parallel_blocks(model) else layer + 1
    out = []
    for _, batch in inference.batches(model, examples, chat=chat):
        activations, _ = _record(model, batch, range(layer + 1), name)
        rows = read_mask(batch, at)
        stream = stream_sum(model, activations, rows, heads_below, layer)
        scale = divisor(stream, kind, eps)
        terms = _terms(model, activations, rows, weights, scale, heads_below, layer)
        target = activations[name][rows][:, neuron].float()
        columns = (*(term[..., 0] for term in terms), offset.expand(len(target)), target)
        out.append(columns)
    result = Decomposition(*(torch.cat(values) for values in zip(*_non_empty(out), strict=True)))
    _check(model, result, f"the sum of all components' contributions to neuron {neuron} of layer {layer}")
    return result


def read_mask(batch: inference.Batch, at: str) -> Tensor:
    """Return a mask of the tokens to read.

    Args:
        batch: The batch.
        at: `last` for each row's last token, `answer` for its answer tokens.
    """
    if at == "answer":
        return batch.answer
    positions = torch.arange(batch.mask.shape[1], device=batch.mask.device)
    return positions == torch.where(batch.mask, positions, -1).amax(dim=1, keepdim=True)


def stream_sum(
    model: models.Model, activations: Mapping[str, Tensor], rows: Tensor, heads_below: int, neurons_below: int
) -> Float[Tensor, "n d_model"]:
    """Add up the stream from its components.

    Args:
        model: A TransformerLens model.
        activations: Activations by hook name.
        rows: Mask of the tokens to read.
        heads_below: Include the heads of layers below this one.
        neurons_below: Include the neurons of layers below this one.
    """
    x = activations[models.hook_name(model, 0, "resid_pre")][rows].float()
    for layer in range(max(heads_below, neurons_below)):
        if layer < heads_below:
            z = activations[models.hook_name(model, layer, "z")][rows]
            x = x + OutputMap.of(model, layer, "attn").added(attn_output(model, layer, z))
        if layer < neurons_below:
            h = activations[models.hook_name(model, layer, "post")][rows]
            x = x + OutputMap.of(model, layer, "mlp").added(mlp_output(model, layer, h))
    return x


def _terms(
    model: models.Model,
    activations: Mapping[str, Tensor],
    rows: Tensor,
    reader: Float[Tensor, "d_model t"],
    scale: Float[Tensor, " n"],
    heads_below: int,
    neurons_below: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return embed `[n, t]`, heads `[n, l, h, t]`, neurons `[n, l, k, t]`, biases `[n, l, 2, t]`; 0 from the bounds on."""
    facts = models.info(model)
    n, n_readers = len(scale), reader.shape[1]
    divisors = scale[:, None]
    embed = activations[models.hook_name(model, 0, "resid_pre")][rows].float() @ reader / divisors
    heads = embed.new_zeros(n, facts.n_layers, facts.n_heads, n_readers)
    neurons = embed.new_zeros(n, facts.n_layers, facts.d_mlp, n_readers)
    biases = embed.new_zeros(n, facts.n_layers, 2, n_readers)
    for layer in range(max(heads_below, neurons_below)):
        extra = models.biases(model, layer)
        if layer < heads_below:
            z = activations[models.hook_name(model, layer, "z")][rows].float()
            to_stream = OutputMap.of(model, layer, "attn")
            each = divisors * to_stream.divisor(attn_output(model, layer, z))[:, None]
            out = to_stream.linear(models.w_o(model, layer).detach().float()) @ reader  # [h, c, t]
            heads[:, layer] = torch.einsum("nhc,hct->nht", z, out) / each[..., None]
            bias = extra["b_O"].detach().float()
            biases[:, layer, 0] = (to_stream.linear(bias) @ reader) / each + (to_stream.bias(bias) @ reader) / divisors
        if layer < neurons_below:
            h = activations[models.hook_name(model, layer, "post")][rows].float()
            to_stream = OutputMap.of(model, layer, "mlp")
            each = divisors * to_stream.divisor(mlp_output(model, layer, h))[:, None]
            neurons[:, layer] = h[..., None] * (written(model, layer) @ reader) / each[..., None]
            bias = extra["b_out"].detach().float()
            biases[:, layer, 1] = (to_stream.linear(bias) @ reader) / each + (to_stream.bias(bias) @ reader) / divisors
    return embed, heads, neurons, biases


def _record(
    model: models.Model, batch: inference.Batch, layers: Sequence[int], *more: str
) -> tuple[dict[str, Tensor], Float[Tensor, "b n d_vocab"]]:
    """Return the activations that the decomposition needs, by hook name, and the logits."""
    last = models.info(model).n_layers - 1
    names = [models.hook_name(model, 0, "resid_pre"), models.hook_name(model, last, "resid_post"), *more]
    names += [models.hook_name(model, layer, site) for layer in layers for site in ("z", "post")]
    with record_hooks(model, names) as activations:
        logits = inference.forward_batch(model, batch)
    assert logits is not None
    return activations, logits


def _check(model: models.Model, result: Decomposition, what: str) -> None:
    error = result.error()
    if not error <= tolerance(model):
        raise refusal(model, what, error)


def _difference(logits: Tensor, positive: Sequence[int], negative: Sequence[int]) -> Tensor:
    against = logits[..., list(negative)].mean(dim=-1) if len(negative) else logits.mean(dim=-1)
    return logits[..., list(positive)].mean(dim=-1) - against


def _uncapped(model: models.Model, logits: Tensor, final: Tensor) -> Tensor:
    """Return the logits before the soft cap: of the stream, whose logits must be the model's own, since a cap hides digits."""
    cap = models.logit_soft_cap(model)
    if not cap > 0:
        return logits.double()
    error = (models.logits_of(model, final) - logits.float()).norm() / logits.float().norm()
    if not float(error) <= tolerance(model):
        raise refusal(model, "the readout of the last residual stream", float(error))
    return models.logits_of(model, final, cap=False).double()


def _non_empty(batches: list[Any]) -> list[Any]:
    if not batches:
        raise InputError("nothing to attribute: give at least one example")
    return batches
