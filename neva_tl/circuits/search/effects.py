"""Effects inside a circuit: what feeds a neuron or head, and what each node does to the values' log-odds.

Every effect on a node t is measured on one number per text, its first-order part in the task:

    A_t = sum over tokens p of w_t[p] . a_t[p],     w_t = dm/da_t, averaged along the path of `gates` from the model with
                                                    everything mean-ablated to the unedited one, then held fixed (nats),

so that edges into early and late nodes, at whatever tokens they matter, share one unit; at the unedited run alone the
slope would miss what is saturated there. For a source s:

- attributed (neurons): what s writes along the neuron's own input weights, exact for the direct path with the norm's scale
  and the activation's ratio act(x) / x held fixed (gated: half through the gate, half through what it multiplies), less the
  same for the mean-ablated s; all sources together give the neuron's whole activation. This is edge attribution
  patching (Syed et al. 2023) with an exact linear part.
- total: attribution patching by all paths, `dA_t / dg_s` at the unedited run (see `gates`; Nanda 2023).
- measured: the change of A_t when s is really mean-ablated, with a 95 % interval over texts (Welch). An input token is
  ablated to what stands at its place in the - texts on average.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.attribution.decompose import mlp_reader, read_mask
from neva_tl.attribution.direct import divisor, readout
from neva_tl.attribution.tokens import token_text
from neva_tl.circuits.search.gates import TOKEN_BUDGET, Means, gated, mean_activations
from neva_tl.circuits.search.inputs import input_scores
from neva_tl.circuits.search.nodes import Name, Nodes, split
from neva_tl.circuits.search.single import intervals, measure_sources, pick
from neva_tl.circuits.search.task import ValueTask, read_log_odds
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
        """The input tokens' measured effects on m with their intervals, as a matplotlib figure."""
        from neva_tl.plots.intervals import interval_plot

        table = self.inputs.rename(columns={"text": "label", "measured": "est"})[["label", "est", "lo", "hi"]]
        return interval_plot(table, title="Input tokens ablated", axis="change of m (nats)", guide=0.0)

    def _repr_html_(self) -> str:
        from neva_tl.core.cards import card

        order = self.edges["attributed"].fillna(self.edges["total"]).abs().sort_values(ascending=False).index
        counts = {"edges": len(self.edges), "effects on values": len(self.values), "inputs": len(self.inputs)}
        return card("Effects inside a circuit, strongest edges first", counts, self.edges.loc[order])


@dataclass(frozen=True, eq=False)
class _Run:
    """One batch, run with a graph: activations, gates, log-odds."""

    batch: inference.Batch
    rows: np.ndarray
    seen: dict[str, Tensor]
    gates: Tensor
    embed: Tensor
    odds: Tensor


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
        task: the texts; effects are contrasts between its poles.
        nodes: heads and neurons of the circuit.
        means: by default those of the task's texts.
        n_inputs: input tokens (types) kept, by |total| on m.
        measure: False leaves out the ablations (one run per source).
    """
    means = mean_activations(model, task) if means is None else means
    names: list[Name] = [("head", *pair) for pair in nodes.head_list()]
    names += [("neuron", *pair) for pair in nodes.neuron_list()]
    ids = input_scores(model, task, means)
    total = torch.zeros(len(names), len(names), dtype=torch.float64)  # [target, source]
    from_tokens: dict[int, Tensor] = {}
    direct = torch.zeros_like(total)
    direct_tokens: dict[int, Tensor] = {}
    to_values = torch.zeros(len(names), len(task.ids), dtype=torch.float64)
    counts: dict[int, int] = {}
    weights: list[tuple[np.ndarray, dict[Name, Tensor]]] = _slopes(model, task, means, names)
    for run, (_, w) in zip(_runs(model, task, means), weights, strict=True):
        sign = torch.as_tensor(task.weights[run.rows], dtype=torch.float32, device=run.odds.device)
        tokens = run.batch.tokens[run.batch.mask].cpu()
        for token, count in zip(*tokens.unique(return_counts=True), strict=True):
            counts[int(token)] = counts.get(int(token), 0) + int(count)
        for place, name in enumerate(names):
            number = (w[name] * pick(_site(model, run, name), name)).sum()
            found = torch.autograd.grad(number, [run.gates, run.embed], retain_graph=True, allow_unused=True)
            if found[0] is not None:
                total[place] += _of_nodes(model, found[0], names).double().cpu()
            if found[1] is not None:
                _by_token(from_tokens, place, len(names), tokens, _lift(found[1], run, means)[run.batch.mask])
        with torch.no_grad():
            outputs = _outputs(model, run, names, means)
            _direct(model, run, names, w, outputs, means, direct, direct_tokens, tokens)
            to_values += _to_values(model, run, task, sign, outputs)
    chosen = [int(token) for token in ids.abs().argsort(descending=True)[:n_inputs] if counts.get(int(token))]
    measured = measure_sources(model, task, means, names, chosen, weights) if measure else {}
    return _tables(
        model, task, names, chosen, counts, ids, total, direct, from_tokens, direct_tokens, to_values, measured
    )


# ---------------------------------------------------------------- one batch with a graph


def _slopes(
    model: models.Model, task: ValueTask, means: Means, names: Sequence[Name], steps: int = 4
) -> list[tuple[np.ndarray, dict[Name, Tensor]]]:
    """Per batch, w of every node: the slope of m in its activation, averaged along the path of the gates."""
    own = list(task.ids).index(task.value)
    out: list[tuple[np.ndarray, dict[Name, Tensor]]] = []
    for step in range(steps):
        for place, run in enumerate(_runs(model, task, means, (step + 0.5) / steps)):
            sign = torch.as_tensor(task.weights[run.rows], dtype=torch.float32, device=run.odds.device)
            sites = list({id(x): x for x in (_site(model, run, name) for name in names)}.values())
            found = torch.autograd.grad((run.odds[:, own] * sign).sum(), sites, allow_unused=True)
            grads = {id(x): torch.zeros_like(x) if g is None else g for x, g in zip(sites, found, strict=True)}
            w = {name: pick(grads[id(_site(model, run, name))], name) / steps for name in names}
            if step == 0:
                out.append((run.rows, w))
            else:
                for name in names:
                    out[place][1][name].add_(w[name])
    return out


def _runs(model: models.Model, task: ValueTask, means: Means, gate: float = 1.0) -> Iterator[_Run]:
    facts = models.info(model)
    names = [models.hook_name(model, layer, site) for layer in range(facts.n_layers) for site in _sites(model)]
    names.append(models.hook_name(model, facts.n_layers - 1, "resid_post"))
    size = facts.n_layers * (facts.n_heads + facts.d_mlp)
    for rows, batch in inference.batches(model, task.examples, token_budget=TOKEN_BUDGET, chat=task.chat):
        gates = torch.full((size,), gate, device=facts.device, requires_grad=True)
        seen: dict[str, Tensor] = {}
        start = models.hook_name(model, 0, "resid_pre")
        # behind the gates: what is kept is what the model goes on with
        keeping = [(name, _keep(seen, name)) for name in names]
        with (
            torch.enable_grad(),
            temporary_hooks(model, [(start, _leaf(seen))]),
            gated(model, means, *split(model, gates)),
        ):
            with temporary_hooks(model, keeping):
                logits = inference.forward_batch(model, batch, grad=True)
            assert logits is not None
            seen["logits"] = logits
            odds = read_log_odds(logits, batch, task.at, list(task.ids.values()))
        yield _Run(batch, np.asarray(rows), seen, gates, seen["embed"], odds)


def _sites(model: models.Model) -> tuple[str, ...]:
    stream = "resid_pre" if models.parallel_blocks(model) else "resid_mid"
    return ("z", "post", "pre", stream, *(("up",) if models.info(model).gated else ()))


def _leaf(seen: dict[str, Tensor]) -> Any:
    def start(x: Tensor, hook: Any = None) -> Tensor:
        seen["embed"] = x.detach().clone().requires_grad_(True)
        return seen["embed"]

    return start


def _keep(seen: dict[str, Tensor], name: str) -> Any:
    def look(x: Tensor, hook: Any = None) -> Tensor:
        # handed back, because a bridge may give each hook a view of its own, off the path to the logits
        seen[name] = x
        return x

    return look


def _site(model: models.Model, run: _Run, name: Name) -> Tensor:
    return run.seen[models.hook_name(model, name[1], "z" if name[0] == "head" else "post")]


def _lift(gradient: Tensor, run: _Run, means: Means) -> Float[Tensor, "b n"]:
    """Attribution patching of each token's embedding: gradient times its difference from the - texts' mean."""
    return (gradient * (run.embed.detach() - Means.at(means.embed, run.embed.shape[1]))).sum(dim=-1)


def _of_nodes(model: models.Model, gates: Tensor, names: Sequence[Name]) -> Tensor:
    heads, neurons = split(model, gates.detach())
    return torch.stack([(heads if kind == "head" else neurons)[layer, index] for kind, layer, index in names])


def _by_token(held: dict[int, Tensor], place: int, size: int, tokens: Tensor, lifts: Tensor) -> None:
    """Add per token type what its embeddings give to target number `place`."""
    kinds, which = tokens.unique(return_inverse=True)
    summed = torch.zeros(len(kinds), dtype=torch.float64).index_add_(0, which, lifts.detach().double().cpu())
    for token, x in zip(kinds.tolist(), summed, strict=True):
        held.setdefault(token, torch.zeros(size, dtype=torch.float64))[place] += x


# ---------------------------------------------------------------- the direct path, exact


def _outputs(model: models.Model, run: _Run, names: Sequence[Name], means: Means) -> Float[Tensor, "s b n d_model"]:
    """What each node writes into the stream, less what its mean would write."""
    out = []
    for name in names:
        kind, layer, index = name
        n = run.batch.mask.shape[1]
        x = pick(_site(model, run, name), name).float()
        if kind == "head":
            gap = x - Means.at(means.z[layer], n)[:, index]
            out.append(gap @ models.w_o(model, layer).detach().float()[index])
        else:
            gap = x - Means.at(means.post[layer], n)[:, index]
            out.append(gap[..., None] * models.w_out(model, layer).detach().float()[index])
    return torch.stack(out) if out else run.embed.new_zeros(0, *run.embed.shape)


def _direct(
    model: models.Model,
    run: _Run,
    names: Sequence[Name],
    w: dict[Name, Tensor],
    outputs: Tensor,
    means: Means,
    direct: Tensor,
    direct_tokens: dict[int, Tensor],
    tokens: Tensor,
) -> None:
    """Add the direct effects of all nodes and tokens on the neurons among the targets."""
    embed = run.embed.detach().float() - Means.at(means.embed, run.embed.shape[1])
    for place, name in enumerate(names):
        if name[0] != "neuron":
            continue
        reader = neuron_reader(model, run.seen, name) * (w[name] * run.batch.mask)[..., None]
        found = torch.einsum("sbnd,bnd->s", outputs, reader).double().cpu()
        for source, other in enumerate(names):
            if feeds(model, other, name):
                direct[place, source] += found[source]
        _by_token(direct_tokens, place, len(names), tokens, (embed * reader).sum(dim=-1)[run.batch.mask])


def neuron_reader(model: models.Model, seen: dict[str, Tensor], name: Name) -> Float[Tensor, "b n d_model"]:
    """Per token the linear map from the stream in front of the MLP to the neuron's activation; norm scale and activation
    ratio held fixed.
    """
    _, layer, index = name
    kind, _, _, eps = models.mlp_norm(model, layer)
    stream = seen[models.hook_name(model, layer, _sites(model)[3])].float()
    pre = seen[models.hook_name(model, layer, "pre")][..., index].float()
    act = models.activation(model)(pre)
    # act(x) / x has a limit at 0: half, for the usual smooth units, and 0 counts for nothing there anyway
    ratio = torch.where(pre.abs() > 1e-6, act / torch.where(pre.abs() > 1e-6, pre, 1.0), 0.5)
    weight = mlp_reader(model, layer, [index], "pre")[0][:, 0]
    if models.info(model).gated:
        up = seen[models.hook_name(model, layer, "up")][..., index].float()
        other = mlp_reader(model, layer, [index], "up")[0][:, 0]
        whole = 0.5 * ((ratio * up)[..., None] * weight + act[..., None] * other)
    else:
        whole = ratio[..., None] * weight
    return whole / divisor(stream, kind, eps)[..., None]


def feeds(model: models.Model, source: Name, target: Name) -> bool:
    """Whether a source's output reaches a neuron's input by the residual stream alone."""
    same = source[1] == target[1]
    if source[0] == "head" and target[0] == "neuron" and same:
        return not models.parallel_blocks(model)
    return source[1] < target[1]


def _to_values(model: models.Model, run: _Run, task: ValueTask, sign: Tensor, outputs: Tensor) -> Float[Tensor, "s v"]:
    """Direct path to each value's log-odds: outputs along the log-odds' gradient in the logits, norm scale fixed."""
    kind, _, _, eps = models.final_norm(model)
    rows = read_mask(run.batch, task.at)
    final = run.seen[models.hook_name(model, models.info(model).n_layers - 1, "resid_post")].detach()[rows].float()
    each = (sign / rows.sum(dim=1))[rows.nonzero()[:, 0]] / divisor(final, kind, eps)
    probability = run.seen["logits"].detach()[rows].float().softmax(dim=-1)
    read = readout(model, centred=True)
    out = []
    for ids in task.ids.values():
        inside = torch.zeros(probability.shape[-1], dtype=torch.bool, device=probability.device)
        inside[ids] = True
        share = torch.where(inside, probability, 0.0)
        rest = probability - share
        slope = share / share.sum(dim=-1, keepdim=True) - rest / rest.sum(dim=-1, keepdim=True)
        reader = (slope @ read.T) * each[:, None]
        out.append(torch.einsum("smd,md->s", outputs[:, rows], reader))
    return torch.stack(out, dim=1).double().cpu()


# ---------------------------------------------------------------- tables


def _tables(
    model: models.Model,
    task: ValueTask,
    names: Sequence[Name],
    tokens: Sequence[int],
    counts: dict[int, int],
    on_m: Tensor,
    total: Tensor,
    direct: Tensor,
    from_tokens: dict[int, Tensor],
    direct_tokens: dict[int, Tensor],
    to_values: Tensor,
    measured: dict[Name, tuple[np.ndarray, np.ndarray]],
) -> Effects:
    nothing = (np.nan, np.nan, np.nan)
    on_nodes = {name: intervals(task, found[0]).tolist() for name, found in measured.items()}
    on_values = {name: intervals(task, found[1]).tolist() for name, found in measured.items()}
    own = list(task.ids).index(task.value)
    edges, values, inputs = [], [], []
    for t, target in enumerate(names):
        for s, source in enumerate(names):
            if not feeds(model, source, target) and not (target[0] == "head" and source[1] < target[1]):
                continue
            found = on_nodes[source][t] if measured else nothing
            exact = float(direct[t, s]) if target[0] == "neuron" else np.nan
            edges.append((source, target, exact, float(total[t, s]), *found))
        for token in tokens:
            source = ("input", -1, token)
            found = on_nodes[source][t] if measured else nothing
            exact = float(direct_tokens[token][t]) if target[0] == "neuron" and token in direct_tokens else np.nan
            edges.append((source, target, exact, float(from_tokens[token][t]) if token in from_tokens else 0.0, *found))
    for s, source in enumerate(names):
        for v, value in enumerate(task.ids):
            found = on_values[source][v] if measured else nothing
            values.append((source, value, float(to_values[s, v]), *found))
    reader = models.tokenizer(model)
    for token in tokens:
        found = on_values["input", -1, token][own] if measured else nothing
        inputs.append((token, token_text(reader, token), counts[token], float(on_m[token]), *found))
    interval = ["measured", "lo", "hi"]
    return Effects(
        pd.DataFrame(edges, columns=["source", "target", "attributed", "total", *interval]),
        pd.DataFrame(values, columns=["source", "value", "attributed", *interval]),
        pd.DataFrame(inputs, columns=["token", "text", "count", "total", *interval]),
    )
