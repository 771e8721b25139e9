"""Search for a small circuit that carries a task: score, prune, exchange.

Score (gate-integrated gradients, ours; the idea is integrated gradients, Sundararajan et al. 2017, on gates as in
attribution patching, Nanda 2023): with all gates of the current circuit at a, `s_c = mean over a in (0, 1) of dm/dg_c`.
Along this diagonal the scores sum to m(circuit) - m(nothing), so that "share of the effect" is well defined, and each node
is scored while the others are partly active.

Prune: from the full model down through a few sizes, with new scores at each. The removed nodes are those that bring F
nearest to 1: nodes that work against m while F is below 1, else the smallest. Heads stay until the neurons are exhausted: a
neuron is worth nothing without the heads that feed it.

Exchange: add the absent nodes with the largest gradient at the circuit, remove the same number of weakest ones, keep the
best circuit so far. Only the task's own texts are used; report `faithfulness` on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.circuits.search.circuit_run import CircuitRun
from neva_tl.circuits.search.gates import Means
from neva_tl.circuits.search.nodes import Nodes
from neva_tl.circuits.search.task import ValueTask, read_log_odds
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
from neva_tl.models import inference

#: Each pruning round leaves at least this share of the nodes.
KEEP = 0.5


@dataclass(frozen=True, eq=False)
class SearchResult:
    """A circuit of a requested size, and its scores in the search.

    Attributes:
        nodes: The circuit.
        shares: Score over m(model) - m(nothing), per head and neuron (flat), measured in the circuit; 0 outside it.
        f: Faithfulness on the search's own texts (optimistic: the circuit was fitted to them).
        size: Number of heads and neurons.
    """

    nodes: Nodes
    shares: Float[Tensor, " n_nodes"]
    f: float
    size: int


@dataclass(frozen=True)
class _Settings:
    """Options of `find_circuits`, and the ends of the scale of F: m of nothing and m of the full model."""

    steps: int
    exchanges: int
    batch: int | None
    nothing: float
    full: float

    @property
    def span(self) -> float:
        return self.full - self.nothing


@check_arguments
def gate_scores(
    model: models.Model, task: ValueTask, means: Means, nodes: Nodes, *, steps: int = 4
) -> Float[Tensor, " n_nodes"]:
    """Gate-integrated gradients of m for the nodes of a circuit, in nats.

    They sum to m(circuit) - m(nothing) up to the midpoint rule's error.

    Args:
        model: A TransformerLens model.
        task: The texts.
        means: Activations at gate 0.
        nodes: The circuit.
        steps: Points on the path.

    Returns:
        Flat, heads then neurons; 0 outside the circuit.
    """
    return _scores(CircuitRun(model, task, means), nodes, steps)


def gate_gradient(
    model: models.Model, task: ValueTask, means: Means, gates: Float[Tensor, " n_nodes"]
) -> Float[Tensor, " n"]:
    """Gradient dm/dg of every head and neuron at these gates (flat), in nats.

    Args:
        model: A TransformerLens model.
        task: The texts.
        means: Activations at gate 0.
        gates: One gate per head, then per neuron.
    """
    return _gradient(CircuitRun(model, task, means), gates)


def _scores(run: CircuitRun, nodes: Nodes, steps: int) -> Float[Tensor, " n_nodes"]:
    mask = nodes.flat().float()
    path = ((step + 0.5) / steps for step in range(steps))
    return sum((_gradient(run, mask * gate) for gate in path), torch.zeros_like(mask)) * mask / steps


def _gradient(run: CircuitRun, gates: Float[Tensor, " n_nodes"]) -> Float[Tensor, " n_nodes"]:
    total = torch.zeros_like(gates)
    ids = [run.task.ids[run.task.value]]
    for rows, batch in run.batches():
        leaf = gates.detach().clone().to(models.info(run.model).device).requires_grad_(True)
        with torch.enable_grad(), run.gated(leaf):
            logits = inference.forward_batch(run.model, batch, grad=True)
            assert logits is not None
            odds = read_log_odds(logits, batch, run.task.at, ids)[:, 0]
            (slope,) = torch.autograd.grad((odds * run.text_weights(rows, odds.device)).sum(), leaf)
        total += slope.detach().cpu()
    return total


@check_arguments
def find_circuits(
    model: models.Model,
    task: ValueTask,
    sizes: Sequence[int],
    *,
    means: Means | None = None,
    steps: int = 4,
    exchanges: int = 6,
    batch: int | None = 64,
    seed: int = 0,
    progress: bool = False,
) -> dict[int, SearchResult]:
    """Circuits of several sizes, each pruned from the next larger one and improved by exchanges.

    Args:
        model: A TransformerLens model.
        task: The texts.
        sizes: Heads plus neurons; sizes at or above the model's own give the full model.
        means: By default those of the task's texts.
        steps: Points on the path per score.
        exchanges: Rounds per size.
        batch: Texts per pole in each round, drawn anew (None: all). Fewer are faster and, drawn anew, overfit less.
        seed: Seed of the draws.
        progress: Whether to show a progress bar.

    Raises:
        InputError: `sizes` is empty, a size is below 1, or the task has no effect to explain.
    """
    if not len(sizes) or min(sizes) < 1:
        raise InputError(f"circuit sizes must be at least 1: {list(sizes)}")
    run = CircuitRun.of(model, task, means)
    rng = np.random.default_rng([seed, 41])
    nothing, full = (run.m(nodes) for nodes in (Nodes.none(model), ~Nodes.none(model)))
    if not full > nothing:
        raise InputError(
            f"the model's {task.value} words are no likelier on + than on - texts (m = {full:.3g}, with everything "
            f"ablated {nothing:.3g}): there is nothing for a circuit to explain"
        )
    settings = _Settings(steps, exchanges, batch, nothing, full)
    nodes = ~Nodes.none(model)
    out: dict[int, SearchResult] = {}
    plan = _plan(len(nodes), sizes)
    with progress_bar(total=len(plan) + exchanges * len(set(sizes)), desc="circuit", progress=progress) as bar:
        for size in plan:
            if size < len(nodes):
                scores = _scores(run.on(_draw(task, batch, rng)), nodes, steps) / settings.span
                nodes = _prune(model, nodes, scores, size)
            bar.update()
            if size in sizes:
                nodes, f = _exchange(run, nodes, settings, rng, bar)
                shares = _scores(run, nodes, steps) / settings.span
                out[size] = SearchResult(nodes, shares, f, len(nodes))
    return out


@check_arguments
def find_circuit(model: models.Model, task: ValueTask, size: int = 60, **options: Any) -> SearchResult:
    """One circuit of a requested size.

    Args:
        model: A TransformerLens model.
        task: The texts.
        size: Heads plus neurons.
        options: Options of `find_circuits`.
    """
    return find_circuits(model, task, [size], **options)[size]


def _plan(full: int, sizes: Sequence[int]) -> list[int]:
    """Sizes to pass through, large to small: each at least KEEP of the one before."""
    out, now = [], full
    for goal in sorted({min(size, full) for size in sizes} | {s for s in sizes if s > full}, reverse=True):
        while now * KEEP > goal:
            now = int(now * KEEP)
            out.append(now)
        out.append(goal)
        now = min(now, goal)
    return out


def _draw(task: ValueTask, per_pole: int | None, rng: np.random.Generator) -> ValueTask:
    """The same task on a random subset of its texts."""
    if per_pole is None:
        return task
    rows: list[int] = []
    for sign in (1.0, -1.0):
        rows += rng.permutation(np.flatnonzero(task.signs == sign))[:per_pole].tolist()
    return task.subset(sorted(rows))


def _prune(model: models.Model, nodes: Nodes, scores: Tensor, size: int) -> Nodes:
    """Remove nodes until `size` remain; `scores` in units of F. Heads go only where the neurons do not suffice."""
    mask = nodes.flat().clone()
    cut = nodes.heads.numel()
    surplus = int(mask.sum()) - size
    f = float(scores.sum())
    removable = mask.clone()
    if int(mask[cut:].sum()) > surplus:
        removable[:cut] = False
    else:
        # all neurons would go: heads and neurons compete
        cut = 0
    order = [int(i) for i in scores.argsort() if removable[i]]
    for index in order:
        # remove only nodes that work against m, and only while F comes nearer to 1 without them
        if surplus == 0 or scores[index] >= 0 or abs(1 - f + float(scores[index])) >= abs(1 - f):
            break
        mask[index], removable[index] = False, False
        f -= float(scores[index])
        surplus -= 1
    weakest = [int(i) for i in scores.abs().argsort() if removable[i]][:surplus]
    mask[weakest] = False
    return Nodes.from_flat(model, mask)


def _exchange(
    run: CircuitRun, nodes: Nodes, settings: _Settings, rng: np.random.Generator, bar: Any
) -> tuple[Nodes, float]:
    """Swap weak nodes for promising absent ones; the circuit with F nearest to 1 on all texts of the task, and its F."""
    size, rounds = len(nodes), settings.exchanges

    def f_of(candidate: Nodes) -> float:
        return (run.m(candidate) - settings.nothing) / settings.span

    best, now = (abs(1 - (f := f_of(nodes))), f, nodes), nodes
    absent = int((~nodes.flat()).sum())
    for number in range(rounds):
        # large swaps first, then smaller ones
        count = min(max(2, round(size * (0.4 - 0.3 * number / max(rounds - 1, 1)))), absent)
        bar.update()
        if not count:
            break
        drawn = run.on(_draw(run.task, settings.batch, rng))
        mask = now.flat()
        gains = _gradient(drawn, mask.float())
        gains[mask] = -np.inf
        wide = mask.clone()
        wide[gains.argsort(descending=True)[:count]] = True
        scores = _scores(drawn, Nodes.from_flat(run.model, wide), max(2, settings.steps - 1))
        scores[~wide] = np.inf
        wide[scores.argsort()[:count]] = False
        now = Nodes.from_flat(run.model, wide)
        f = f_of(now)
        if abs(1 - f) < best[0]:
            best = (abs(1 - f), f, now)
    return best[2], best[1]
