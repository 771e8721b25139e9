"""Effects inside a circuit: inputs of each head and neuron, and effects of each node on the values' log-odds.

Every effect on a node t is measured on one number per text, its first-order part in the task:

    A_t = sum over tokens p of w_t[p] . a_t[p],     w_t = dm/da_t, averaged along the path of `gates` from the model with
                                                    everything mean-ablated to the unedited one, then held fixed (nats),

so that edges into early and late nodes, at whatever tokens they matter, share one unit; the slope at the unedited run alone
would miss nodes that are saturated there. For a source s:

- attributed (neurons): the output of s along the neuron's own input weights, exact for the direct path with the norm's scale
  and the activation's ratio act(x) / x held fixed (gated MLPs: half through the gate, half through the factor it
  multiplies), less the same for the mean-ablated s; all sources together give the neuron's full activation. This is edge
  attribution patching (Syed et al. 2023) with an exact linear part. Scales of norms after attention or MLP are fixed too.
- total: attribution patching by all paths, `dA_t / dg_s` at the unedited run (see `gates`; Nanda 2023).
- measured: the change of A_t when s is actually mean-ablated, with a 95 % interval over texts (Welch). An input token is
  ablated to the average embedding at its position in the - texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.attribution.decompose import read_mask
from neva_tl.attribution.direct import readout
from neva_tl.attribution.outputs import OutputMap, attn_output, divisor, mlp_output, written
from neva_tl.attribution.reads import mlp_reader
from neva_tl.attribution.self_check import check_activations, check_blocks, check_reads
from neva_tl.attribution.tokens import token_text
from neva_tl.circuits.search.circuit_run import CircuitRun
from neva_tl.circuits.search.gates import Means
from neva_tl.circuits.search.inputs import input_scores
from neva_tl.circuits.search.nodes import Name, Nodes, split
from neva_tl.circuits.search.single import intervals, measure_sources, pick, site_of
from neva_tl.circuits.search.task import ValueTask, read_log_odds
from neva_tl.core.arguments import check_arguments
from neva_tl.core.messages import progress_bar
from neva_tl.models import inference
from neva_tl.models.hooks import temporary_hooks


@dataclass(frozen=True)
class Effects:
    """Edges of a circuit, in nats.

    Attributes:
        edges: source, target (names), attributed, total, measured, lo, hi; NaN where one does not exist.
        values: source, value, attributed (direct path to the value's log-odds), measured, lo, hi.
        inputs: token, text, count, total (integrated gradients of its embeddings on m), measured, lo, hi.
    """

    edges: pd.DataFrame
    values: pd.DataFrame
    inputs: pd.DataFrame

    def show(self) -> Any:
        """Measured effects of the input tokens on m with their intervals, as a matplotlib figure."""
        from neva_tl.plots.intervals import interval_plot

        table = self.inputs.rename(columns={"text": "label", "measured": "est"})[["label", "est", "lo", "hi"]]
        return interval_plot(table, title="Input tokens ablated", axis="change of m (nats)", guide=0.0)

    def _repr_html_(self) -> str:
        from neva_tl.core.cards import card

        order = self.edges["attributed"].fillna(self.edges["total"]).abs().sort_values(ascending=False).index
        counts = {"edges": len(self.edges), "effects on values": len(self.values), "inputs": len(self.inputs)}
        return card("Effects inside a circuit, strongest edges first", counts, self.edges.loc[order])


@dataclass(frozen=True, eq=False)
class _TracedBatch:
    """One batch run with autograd: activations by hook name, gates (flat), embeddings and log-odds."""

    batch: inference.Batch
    rows: np.ndarray
    activations: dict[str, Tensor]
    gates: Tensor
    embed: Tensor
    odds: Tensor


@dataclass(frozen=True, eq=False)
class _EffectSums:
    """Effects summed over batches.

    Attributes:
        names: Targets and sources.
        total: Attribution patching, `[target, source]`.
        direct: The direct path, `[target, source]`.
        values: The direct path to the log-odds, `[source, value]`.
        total_of_tokens: Per token id `[target]`.
        direct_of_tokens: Per token id `[target]`.
        counts: Occurrences per token id.
    """

    names: list[Name]
    total: Tensor
    direct: Tensor
    values: Tensor
    total_of_tokens: dict[int, Tensor] = field(default_factory=dict)
    direct_of_tokens: dict[int, Tensor] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)

    @classmethod
    def zeros(cls, nodes: Nodes, n_values: int) -> _EffectSums:
        names: list[Name] = [("head", *pair) for pair in nodes.head_list()]
        names += [("neuron", *pair) for pair in nodes.neuron_list()]
        square = torch.zeros(len(names), len(names), dtype=torch.float64)
        return cls(names, square, square.clone(), torch.zeros(len(names), n_values, dtype=torch.float64))


@check_arguments
def circuit_effects(
    model: models.Model,
    task: ValueTask,
    nodes: Nodes,
    *,
    means: Means | None = None,
    n_inputs: int = 10,
    measure: bool = True,
) -> Effects:
    """All edges between a circuit's nodes, from its nodes to the values, and from the tokens that move m most.

    Args:
        model: A TransformerLens model.
        task: The texts; effects are contrasts between its poles.
        nodes: Heads and neurons of the circuit.
        means: By default those of the task's texts.
        n_inputs: Number of input tokens (types), by |total| on m.
        measure: False skips the ablations (one run per source).

    Raises:
        InputError: The parts of the model do not add up to its own activations or logits (see `attribution.self_check`).
    """
    check_blocks(model)
    check_reads(model)
    check_activations(model)
    run = CircuitRun.of(model, task, means)
    input_totals = input_scores(model, task, run.means)
    sums = _EffectSums.zeros(nodes, len(task.ids))
    slopes = _slopes(run, sums.names)
    for traced, (_, w) in zip(_traced_batches(run), slopes, strict=True):
        _add_batch(run, traced, w, sums)
    order = input_totals.abs().argsort(descending=True)[:n_inputs]
    tokens = [int(token) for token in order if sums.counts.get(int(token))]
    measured = measure_sources(run, sums.names, tokens, slopes) if measure else {}
    return _tables(run, sums, tokens, input_totals, measured)


# ---------------------------------------------------------------- one batch with autograd


def _add_batch(run: CircuitRun, traced: _TracedBatch, w: dict[Name, Tensor], sums: _EffectSums) -> None:
    """Add one batch's effects by all paths, by the direct path, and on the values."""
    mask = traced.batch.mask
    tokens = traced.batch.tokens[mask].cpu()
    for token, count in zip(*tokens.unique(return_counts=True), strict=True):
        sums.counts[int(token)] = sums.counts.get(int(token), 0) + int(count)
    for target, name in enumerate(sums.names):
        number = (w[name] * pick(_activation(run.model, traced, name), name)).sum()
        on_gates, on_embed = torch.autograd.grad(
            number, [traced.gates, traced.embed], retain_graph=True, allow_unused=True
        )
        if on_gates is not None:
            sums.total[target] += _of_nodes(run.model, on_gates, sums.names).double().cpu()
        if on_embed is not None:
            lifts = (on_embed * _embed_gap(run, traced, traced.embed.detach())).sum(dim=-1)
            _by_token(sums.total_of_tokens, target, len(sums.names), tokens, lifts[mask])
    with torch.no_grad():
        outputs = _outputs(run, traced, sums.names)
        _add_direct(run, traced, w, outputs, sums)
        sums.values.add_(_to_values(run, traced, outputs))


def _slopes(run: CircuitRun, names: Sequence[Name], steps: int = 4) -> list[tuple[np.ndarray, dict[Name, Tensor]]]:
    """Per batch, w of every node: the slope of m in its activation, averaged along the path of the gates."""
    out: list[tuple[np.ndarray, dict[Name, Tensor]]] = []
    for step in progress_bar(range(steps), desc="slopes", unit="step"):
        for number, traced in enumerate(_traced_batches(run, (step + 0.5) / steps)):
            sign = run.text_weights(traced.rows, traced.odds.device)
            sites = list({id(x): x for x in (_activation(run.model, traced, name) for name in names)}.values())
            slopes = torch.autograd.grad((traced.odds[:, run.target_column] * sign).sum(), sites, allow_unused=True)
            grads = {id(x): torch.zeros_like(x) if g is None else g for x, g in zip(sites, slopes, strict=True)}
            w = {name: pick(grads[id(_activation(run.model, traced, name))], name) / steps for name in names}
            if step == 0:
                out.append((traced.rows, w))
            else:
                for name in names:
                    out[number][1][name].add_(w[name])
    return out


def _traced_batches(run: CircuitRun, gate: float = 1.0) -> Iterator[_TracedBatch]:
    """Run every batch with autograd, all gates at one value."""
    model, task = run.model, run.task
    facts = models.info(model)
    names = [models.hook_name(model, layer, site) for layer in range(facts.n_layers) for site in _sites(model)]
    names.append(models.hook_name(model, facts.n_layers - 1, "resid_post"))
    size = facts.n_layers * (facts.n_heads + facts.d_mlp)
    for rows, batch in run.batches():
        gates = torch.full((size,), gate, device=facts.device, requires_grad=True)
        activations: dict[str, Tensor] = {}
        start = models.hook_name(model, 0, "resid_pre")
        # these hooks run after the gates, so that the recorded tensors are those on the path to the logits
        recorders = [(name, _record(activations, name)) for name in names]
        with (
            torch.enable_grad(),
            temporary_hooks(model, [(start, _leaf(activations))]),
            run.gated(gates),
        ):
            with temporary_hooks(model, recorders):
                logits = inference.forward_batch(model, batch, grad=True)
            assert logits is not None
            activations["logits"] = logits
            odds = read_log_odds(logits, batch, task.at, list(task.ids.values()))
        yield _TracedBatch(batch, np.asarray(rows), activations, gates, activations["embed"], odds)


def _sites(model: models.Model) -> tuple[str, ...]:
    return ("z", "post", "pre", _mlp_stream(model), *(("up",) if models.info(model).gated else ()))


def _mlp_stream(model: models.Model) -> str:
    """Site of the stream that the MLP reads."""
    return "resid_pre" if models.parallel_blocks(model) else "resid_mid"


def _leaf(activations: dict[str, Tensor]) -> Callable[..., Tensor]:
    def start(x: Tensor, **_: Any) -> Tensor:
        activations["embed"] = x.detach().clone().requires_grad_(True)
        return activations["embed"]

    return start


def _record(activations: dict[str, Tensor], name: str) -> Callable[..., Tensor]:
    def record(x: Tensor, **_: Any) -> Tensor:
        # returned, because a bridge may give each hook a view of its own, off the path to the logits
        activations[name] = x
        return x

    return record


def _activation(model: models.Model, traced: _TracedBatch, name: Name) -> Tensor:
    return traced.activations[models.hook_name(model, name[1], site_of(name))]


def _embed_gap(run: CircuitRun, traced: _TracedBatch, embed: Tensor) -> Float[Tensor, "b n d_model"]:
    """Difference of each token's embedding from the mean over the - texts at its position."""
    return embed - Means.at(run.means.embed, traced.embed.shape[1])


def _of_nodes(model: models.Model, gates: Tensor, names: Sequence[Name]) -> Tensor:
    heads, neurons = split(model, gates.detach())
    return torch.stack([(heads if kind == "head" else neurons)[layer, index] for kind, layer, index in names])


def _by_token(sums: dict[int, Tensor], target: int, n_targets: int, tokens: Tensor, lifts: Tensor) -> None:
    """Add to one target the effects of each token type's embeddings."""
    types, inverse = tokens.unique(return_inverse=True)
    summed = torch.zeros(len(types), dtype=torch.float64).index_add_(0, inverse, lifts.detach().double().cpu())
    for token, x in zip(types.tolist(), summed, strict=True):
        sums.setdefault(token, torch.zeros(n_targets, dtype=torch.float64))[target] += x


# ---------------------------------------------------------------- the direct path, exact


def _outputs(run: CircuitRun, traced: _TracedBatch, names: Sequence[Name]) -> Float[Tensor, "s b n d_model"]:
    """Each node's output into the stream, less the output of its mean."""
    model, means = run.model, run.means
    scales: dict[tuple[str, int], Tensor] = {}
    out = []
    for name in names:
        kind, layer, index = name
        n = traced.batch.mask.shape[1]
        x = pick(_activation(model, traced, name), name).float()
        if (kind, layer) not in scales:
            scales[kind, layer] = _output_divisor(model, traced, name)[..., None]
        if kind == "head":
            gap = x - Means.at(means.z[layer], n)[:, index]
            output = gap @ models.w_o(model, layer).detach().float()[index]
            out.append(OutputMap.of(model, layer, "attn").linear(output) / scales[kind, layer])
        else:
            gap = x - Means.at(means.post[layer], n)[:, index]
            out.append(gap[..., None] * written(model, layer)[index] / scales[kind, layer])
    return torch.stack(out) if out else traced.embed.new_zeros(0, *traced.embed.shape)


def _output_divisor(model: models.Model, traced: _TracedBatch, name: Name) -> Float[Tensor, "b n"]:
    """Divisor of the norm after a node's attention or MLP at every token; 1 without one."""
    kind, layer, _ = name
    activation = _activation(model, traced, name).detach()
    to_stream = OutputMap.of(model, layer, "attn" if kind == "head" else "mlp")
    if to_stream.norm is None:
        return activation.new_ones(activation.shape[:2], dtype=torch.float32)
    return to_stream.divisor((attn_output if kind == "head" else mlp_output)(model, layer, activation))


def _add_direct(
    run: CircuitRun, traced: _TracedBatch, w: dict[Name, Tensor], outputs: Tensor, sums: _EffectSums
) -> None:
    """Add the direct effects of all nodes and tokens on the neurons among the targets."""
    mask = traced.batch.mask
    tokens = traced.batch.tokens[mask].cpu()
    embed = _embed_gap(run, traced, traced.embed.detach().float())
    for target, name in enumerate(sums.names):
        if name[0] != "neuron":
            continue
        reader = neuron_reader(run.model, traced.activations, name) * (w[name] * mask)[..., None]
        effects = torch.einsum("sbnd,bnd->s", outputs, reader).double().cpu()
        for source, other in enumerate(sums.names):
            if feeds(run.model, other, name):
                sums.direct[target, source] += effects[source]
        _by_token(sums.direct_of_tokens, target, len(sums.names), tokens, (embed * reader).sum(dim=-1)[mask])


def neuron_reader(model: models.Model, activations: dict[str, Tensor], name: Name) -> Float[Tensor, "b n d_model"]:
    """Linear map per token from the stream before the MLP to a neuron's activation.

    The norm's scale and the activation's ratio act(x) / x stay fixed.

    Args:
        model: A TransformerLens model.
        activations: By hook name: the stream before the MLP, `pre` and, in gated MLPs, `up` of the neuron's layer.
        name: The neuron.
    """
    _, layer, index = name
    kind, _, _, eps = models.mlp_norm(model, layer)
    stream = activations[models.hook_name(model, layer, _mlp_stream(model))].float()
    pre = activations[models.hook_name(model, layer, "pre")][..., index].float()
    act = models.activation(model)(pre)
    # act(x) / x -> 1/2 at 0 for GELU and SiLU; the value is irrelevant there because x itself is 0
    ratio = torch.where(pre.abs() > 1e-6, act / torch.where(pre.abs() > 1e-6, pre, 1.0), 0.5)
    weight = mlp_reader(model, layer, [index], "pre")[0][:, 0]
    if models.info(model).gated:
        up = activations[models.hook_name(model, layer, "up")][..., index].float()
        up_weight = mlp_reader(model, layer, [index], "up")[0][:, 0]
        linear = 0.5 * ((ratio * up)[..., None] * weight + act[..., None] * up_weight)
    else:
        linear = ratio[..., None] * weight
    return linear / divisor(stream, kind, eps)[..., None]


def feeds(model: models.Model, source: Name, target: Name) -> bool:
    """Whether a source's output reaches a neuron's input by the residual stream alone.

    Args:
        model: A TransformerLens model.
        source: A head or neuron.
        target: A head or neuron.
    """
    same = source[1] == target[1]
    if source[0] == "head" and target[0] == "neuron" and same:
        return not models.parallel_blocks(model)
    return source[1] < target[1]


def _to_values(run: CircuitRun, traced: _TracedBatch, outputs: Tensor) -> Float[Tensor, "s v"]:
    """Direct path to each value's log-odds: outputs along the log-odds' gradient in the logits, norm scale fixed."""
    model, task = run.model, run.task
    sign = run.text_weights(traced.rows, traced.odds.device)
    kind, _, _, eps = models.final_norm(model)
    rows = read_mask(traced.batch, task.at)
    last = models.hook_name(model, models.info(model).n_layers - 1, "resid_post")
    final = traced.activations[last].detach()[rows].float()
    each = (sign / rows.sum(dim=1))[rows.nonzero()[:, 0]] / divisor(final, kind, eps)
    logits = traced.activations["logits"].detach()[rows].float()
    probability = logits.softmax(dim=-1)
    cap = models.logit_soft_cap(model)
    read = readout(model, centred=cap <= 0)
    out = []
    for ids in task.ids.values():
        inside = torch.zeros(probability.shape[-1], dtype=torch.bool, device=probability.device)
        inside[ids] = True
        share = torch.where(inside, probability, 0.0)
        rest = probability - share
        slope = share / share.sum(dim=-1, keepdim=True) - rest / rest.sum(dim=-1, keepdim=True)
        if cap > 0:  # the slope of the cap
            slope = slope * (1 - (logits / cap) ** 2)
        reader = (slope @ read.T) * each[:, None]
        out.append(torch.einsum("smd,md->s", outputs[:, rows], reader))
    return torch.stack(out, dim=1).double().cpu()


# ---------------------------------------------------------------- tables


def _tables(
    run: CircuitRun,
    sums: _EffectSums,
    tokens: Sequence[int],
    input_totals: Tensor,
    measured: dict[Name, tuple[np.ndarray, np.ndarray]],
) -> Effects:
    """The sums as tables; measured columns are NaN where nothing was measured."""
    model, task = run.model, run.task
    missing = [np.nan, np.nan, np.nan]
    on_nodes = {name: intervals(task, changes[0]).tolist() for name, changes in measured.items()}
    on_values = {name: intervals(task, changes[1]).tolist() for name, changes in measured.items()}
    edges, values, inputs = [], [], []
    for t, target in enumerate(sums.names):
        exact_exists = target[0] == "neuron"
        for s, source in enumerate(sums.names):
            if not feeds(model, source, target) and not (target[0] == "head" and source[1] < target[1]):
                continue
            interval = on_nodes[source][t] if measured else missing
            exact = float(sums.direct[t, s]) if exact_exists else np.nan
            edges.append((source, target, exact, float(sums.total[t, s]), *interval))
        for token in tokens:
            source = ("input", -1, token)
            interval = on_nodes[source][t] if measured else missing
            exact = (
                float(sums.direct_of_tokens[token][t]) if exact_exists and token in sums.direct_of_tokens else np.nan
            )
            total = float(sums.total_of_tokens[token][t]) if token in sums.total_of_tokens else 0.0
            edges.append((source, target, exact, total, *interval))
    for s, source in enumerate(sums.names):
        for v, value in enumerate(task.ids):
            interval = on_values[source][v] if measured else missing
            values.append((source, value, float(sums.values[s, v]), *interval))
    tokenizer = models.tokenizer(model)
    for token in tokens:
        interval = on_values["input", -1, token][run.target_column] if measured else missing
        text = token_text(tokenizer, token)
        inputs.append((token, text, sums.counts[token], float(input_totals[token]), *interval))
    columns = ["measured", "lo", "hi"]
    return Effects(
        pd.DataFrame(edges, columns=["source", "target", "attributed", "total", *columns]),
        pd.DataFrame(values, columns=["source", "value", "attributed", *columns]),
        pd.DataFrame(inputs, columns=["token", "text", "count", "total", *columns]),
    )
