"""Finding a small circuit that carries a task: score, prune, exchange.

Score (gate-integrated gradients, ours; the idea is integrated gradients, Sundararajan et al. 2017, on gates as in
attribution patching, Nanda 2023): with all gates of the current circuit at a, `s_c = mean over a in (0, 1) of dm/dg_c`.
Along this diagonal the scores sum to m(circuit) - m(nothing), so that "share of the effect" means something, and a node
is judged with the others partly there.

Prune: from the whole model down through a few sizes, scores taken again at each; what goes is what brings F nearest to 1:
nodes that work against m while F is below 1, else the smallest. Heads are kept until the size is reached: a neuron is
worth nothing if the heads that feed it are gone.

Exchange: add the absent nodes with the largest gradient at the circuit, take the same number of weakest ones out, keep
the best circuit seen. Only the task's own texts are looked at; report `faithfulness` on others.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from neva_tl import models
from neva_tl.circuits.search.gates import TOKEN_BUDGET, Means, contrast, gated, mean_activations, text_log_odds
from neva_tl.circuits.search.nodes import Nodes, split
from neva_tl.circuits.search.task import ValueTask, read_log_odds
from neva_tl.core.errors import InputError
from neva_tl.models import inference

#: Each pruning round keeps at most this share of the nodes.
KEEP = 0.5


@dataclass(frozen=True, eq=False)
class Found:
    """A circuit of a stated size, and what the search saw.

    Attributes:
        nodes: the circuit.
        shares: score over m(model) - m(nothing), per head and neuron (flat), taken in the circuit; 0 outside it.
        f: faithfulness on the search's own texts (optimistic: the circuit was fitted to them).
        size: heads and neurons.
    """

    nodes: Nodes
    shares: Float[Tensor, " n_nodes"]
    f: float
    size: int


def gate_scores(
    model: models.Model, task: ValueTask, means: Means, nodes: Nodes, *, steps: int = 4
) -> Float[Tensor, " n_nodes"]:
    """Gate-integrated gradients of m for the nodes of a circuit (flat, heads then neurons; 0 outside), in nats.

    They sum to m(circuit) - m(nothing) up to the midpoint rule's error.
    """
    mask = nodes.flat().float()
    path = ((step + 0.5) / steps for step in range(steps))
    return (
        sum((gate_gradient(model, task, means, mask * place) for place in path), torch.zeros_like(mask)) * mask / steps
    )


def gate_gradient(
    model: models.Model, task: ValueTask, means: Means, gates: Float[Tensor, " n_nodes"]
) -> Float[Tensor, " n"]:
    """dm/dg of every head and neuron at these gates (flat), in nats."""
    facts = models.info(model)
    total = torch.zeros_like(gates)
    ids = [task.ids[task.value]]
    weights = torch.as_tensor(task.weights, dtype=torch.float32, device=facts.device)
    for rows, batch in inference.batches(model, task.examples, token_budget=TOKEN_BUDGET, chat=task.chat):
        leaf = gates.detach().clone().to(facts.device).requires_grad_(True)
        with torch.enable_grad(), gated(model, means, *split(model, leaf)):
            logits = inference.forward_batch(model, batch, grad=True)
            assert logits is not None
            odds = read_log_odds(logits, batch, task.at, ids)[:, 0]
            (found,) = torch.autograd.grad((odds * weights[torch.as_tensor(rows, device=odds.device)]).sum(), leaf)
        total += found.detach().cpu()
    return total


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
) -> dict[int, Found]:
    """Circuits of several sizes, each pruned from the next larger one and improved by exchanges.

    Args:
        sizes: heads plus neurons; sizes at or above the model's own are the whole model.
        means: by default those of the task's texts.
        steps: places on the path per score.
        exchanges: rounds per size.
        batch: texts per pole in each round, drawn anew (None: all). Fewer are faster and, drawn anew, fit less.

    Raises:
        InputError: no size, or one below 1.
    """
    if not len(sizes) or min(sizes) < 1:
        raise InputError(f"circuit sizes must be at least 1: {list(sizes)}")
    means = mean_activations(model, task) if means is None else means
    rng = np.random.default_rng([seed, 41])
    nothing, whole = (_m(model, task, means, nodes) for nodes in (Nodes.none(model), ~Nodes.none(model)))
    if not whole > nothing:
        raise InputError(
            f"the model's {task.value} words are no likelier on + than on - texts (m = {whole:.3g}, with everything "
            f"ablated {nothing:.3g}): there is nothing for a circuit to explain"
        )
    nodes = ~Nodes.none(model)
    out: dict[int, Found] = {}
    plan = _plan(len(nodes), sizes)
    with tqdm(
        total=len(plan) + exchanges * len(set(sizes)), desc="circuit", file=sys.stderr, disable=not progress
    ) as bar:
        for size in plan:
            if size < len(nodes):
                part = _draw(task, batch, rng)
                scores = gate_scores(model, part, means, nodes, steps=steps) / (whole - nothing)
                nodes = _prune(model, nodes, scores, size)
            bar.update()
            if size in sizes:
                nodes, f = _exchange(model, task, means, nodes, exchanges, steps, batch, rng, nothing, whole, bar)
                shares = gate_scores(model, task, means, nodes, steps=steps) / (whole - nothing)
                out[size] = Found(nodes, shares, f, len(nodes))
    return out


def find_circuit(model: models.Model, task: ValueTask, size: int = 60, **options: Any) -> Found:
    """One circuit of a stated size (see `find_circuits`)."""
    return find_circuits(model, task, [size], **options)[size]


def _plan(whole: int, sizes: Sequence[int]) -> list[int]:
    """Sizes to pass through, large to small: each at least KEEP of the one before."""
    out, now = [], whole
    for goal in sorted({min(size, whole) for size in sizes} | {s for s in sizes if s > whole}, reverse=True):
        while now * KEEP > goal:
            now = int(now * KEEP)
            out.append(now)
        out.append(goal)
        now = min(now, goal)
    return out


def _draw(task: ValueTask, per_pole: int | None, rng: np.random.Generator) -> ValueTask:
    """The same task on some of its texts."""
    if per_pole is None:
        return task
    kept: list[int] = []
    for sign in (1.0, -1.0):
        mine = np.flatnonzero(task.signs == sign)
        kept += rng.permutation(mine)[:per_pole].tolist()
    return subset(task, sorted(kept))


def subset(task: ValueTask, kept: Sequence[int]) -> ValueTask:
    """The task on the texts with these numbers."""
    index = np.asarray(kept)
    examples = tuple(task.examples[i] for i in kept)
    return replace(task, examples=examples, signs=task.signs[index], clusters=task.clusters[index])


def _m(model: models.Model, task: ValueTask, means: Means, nodes: Nodes) -> float:
    own = list(task.ids).index(task.value)
    return float(contrast(task, text_log_odds(model, task, means, nodes)[:, own]))


def _prune(model: models.Model, nodes: Nodes, scores: Tensor, size: int) -> Nodes:
    """Take nodes out until `size` are left; `scores` in units of F. Heads go only where the neurons do not suffice."""
    mask = nodes.flat().clone()
    cut = nodes.heads.numel()
    surplus = int(mask.sum()) - size
    f = float(scores.sum())
    loose = mask.clone()
    if int(mask[cut:].sum()) > surplus:
        loose[:cut] = False
    else:
        # all neurons would go: heads and neurons compete
        cut = 0
    order = [int(i) for i in scores.argsort() if loose[i]]
    for place in order:
        # only what works against m, and only while F comes nearer to 1 without it
        if surplus == 0 or scores[place] >= 0 or abs(1 - f + float(scores[place])) >= abs(1 - f):
            break
        mask[place], loose[place] = False, False
        f -= float(scores[place])
        surplus -= 1
    weakest = [int(i) for i in scores.abs().argsort() if loose[i]][:surplus]
    mask[weakest] = False
    return Nodes.from_flat(model, mask)


def _exchange(
    model: models.Model,
    task: ValueTask,
    means: Means,
    nodes: Nodes,
    rounds: int,
    steps: int,
    batch: int | None,
    rng: np.random.Generator,
    nothing: float,
    whole: float,
    bar: Any,
) -> tuple[Nodes, float]:
    """Swap weak nodes for promising absent ones; the circuit with F nearest to 1 on all texts of the task."""
    size = len(nodes)

    def f_of(candidate: Nodes) -> float:
        return (_m(model, task, means, candidate) - nothing) / (whole - nothing)

    best, now = (abs(1 - (f := f_of(nodes))), f, nodes), nodes
    absent = int((~nodes.flat()).sum())
    for place in range(rounds):
        # wide at first, then finer
        count = min(max(2, round(size * (0.4 - 0.3 * place / max(rounds - 1, 1)))), absent)
        bar.update()
        if not count:
            break
        part = _draw(task, batch, rng)
        mask = now.flat()
        gains = gate_gradient(model, part, means, mask.float())
        gains[mask] = -np.inf
        wide = mask.clone()
        wide[gains.argsort(descending=True)[:count]] = True
        scores = gate_scores(model, part, means, Nodes.from_flat(model, wide), steps=max(2, steps - 1))
        scores[~wide] = np.inf
        wide[scores.argsort()[:count]] = False
        now = Nodes.from_flat(model, wide)
        f = f_of(now)
        if abs(1 - f) < best[0]:
            best = (abs(1 - f), f, now)
    return best[2], best[1]
