"""Single ablations: one head, neuron or input token to its mean, and what changes at other nodes and in the log-odds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from neva_tl import models
from neva_tl.circuits.search.gates import TOKEN_BUDGET, Means, gated
from neva_tl.circuits.search.nodes import Name, Nodes
from neva_tl.circuits.search.task import ValueTask, read_log_odds
from neva_tl.models import inference
from neva_tl.models.hooks import record_hooks, temporary_hooks


def pick(x: Tensor, name: Name) -> Tensor:
    """One node's activation: `[b, n]` of a neuron, `[b, n, d_head]` of a head."""
    return x[..., name[2], :] if name[0] == "head" else x[..., name[2]]


def measure_sources(
    model: models.Model,
    task: ValueTask,
    means: Means,
    names: Sequence[Name],
    tokens: Sequence[int],
    weights: Sequence[tuple[np.ndarray, dict[Name, Tensor]]],
) -> dict[Name, tuple[np.ndarray, np.ndarray]]:
    """Per source the change per text of every A_t `[n, targets]` and of every value's log-odds `[n, values]`."""
    base = observe_targets(model, task, means, names, weights, None)
    out: dict[Name, tuple[np.ndarray, np.ndarray]] = {}
    for source in [*names, *(("input", -1, token) for token in tokens)]:
        found = observe_targets(model, task, means, names, weights, source)
        out[source] = (found[0] - base[0], found[1] - base[1])
    return out


def observe_targets(
    model: models.Model,
    task: ValueTask,
    means: Means,
    names: Sequence[Name],
    weights: Sequence[tuple[np.ndarray, dict[Name, Tensor]]],
    source: Name | None,
) -> tuple[Float[np.ndarray, "n targets"], Float[np.ndarray, "n values"]]:
    """Every A_t and every value's log-odds per text, with one source mean-ablated."""
    targets = np.zeros((len(task.examples), len(names)))
    odds = np.zeros((len(task.examples), len(task.ids)))
    hooks = {models.hook_name(model, name[1], "z" if name[0] == "head" else "post") for name in names}
    batched = inference.batches(model, task.examples, token_budget=TOKEN_BUDGET, chat=task.chat)
    for (rows, batch), (_, w) in zip(batched, weights, strict=True):
        # behind the ablation: a node that is ablated itself is seen so
        with _without(model, means, source, batch.tokens), record_hooks(model, hooks, Tensor.detach) as seen:
            logits = inference.forward_batch(model, batch)
        assert logits is not None
        odds[rows] = read_log_odds(logits, batch, task.at, list(task.ids.values())).double().cpu().numpy()
        for place, name in enumerate(names):
            x = seen[models.hook_name(model, name[1], "z" if name[0] == "head" else "post")]
            number = (w[name] * pick(x, name)).flatten(1).sum(dim=1)
            # w carries the text's weight in m: back to one number per text of the size of m
            targets[rows, place] = number.double().cpu().numpy() / task.weights[rows]
    return targets, odds


@contextmanager
def _without(model: models.Model, means: Means, source: Name | None, tokens: Tensor) -> Iterator[None]:
    """One head, neuron or input token mean-ablated."""
    if source is None:
        yield
        return
    if source[0] == "input":
        here = tokens == source[2]

        def level(x: Tensor, hook: Any = None) -> Tensor:
            return torch.where(here[..., None], Means.at(means.embed, x.shape[1]).to(x.dtype), x)

        with temporary_hooks(model, [(models.hook_name(model, 0, "resid_pre"), level)]):
            yield
        return
    one = Nodes.of(model, *(([source[1:]], ()) if source[0] == "head" else ((), [source[1:]])))
    device = models.info(model).device
    with gated(model, means, (~one.heads).float().to(device), (~one.neurons).float().to(device)):
        yield


def intervals(task: ValueTask, change: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "m 3"]:
    """Contrasts between the poles with their 95 % intervals (Welch): est, lo, hi per column."""
    plus, minus = change[task.signs > 0], change[task.signs < 0]
    estimate = plus.mean(axis=0) - minus.mean(axis=0)
    out = np.stack([estimate] * 3, axis=1)
    # a change that is the same on all texts (none at all, mostly) has an interval of no width
    moved = (np.ptp(plus, axis=0) > 0) | (np.ptp(minus, axis=0) > 0)
    if len(plus) > 1 and len(minus) > 1 and moved.any():
        found = stats.ttest_ind(plus[:, moved], minus[:, moved], equal_var=False).confidence_interval(0.95)
        out[moved, 1], out[moved, 2] = found.low, found.high
    return out
