"""Single ablations: effects of one mean-ablated head, neuron or input token on the other nodes and on the log-odds."""

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
from neva_tl.circuits.search.circuit_run import CircuitRun
from neva_tl.circuits.search.gates import Means
from neva_tl.circuits.search.nodes import Name, Nodes
from neva_tl.circuits.search.task import ValueTask, read_log_odds
from neva_tl.core.messages import progress_bar
from neva_tl.core.statistics import containing
from neva_tl.models import inference
from neva_tl.models.hooks import record_hooks, temporary_hooks

#: Per batch: row indices of its texts, and the weight w of every node's activation (see `effects`).
Slopes = Sequence[tuple[np.ndarray, dict[Name, Tensor]]]


def site_of(name: Name) -> str:
    """Site of a node's activation: `z` of a head, `post` of a neuron."""
    return "z" if name[0] == "head" else "post"


def pick(x: Tensor, name: Name) -> Tensor:
    """Activation of one node: `[b, n]` of a neuron, `[b, n, d_head]` of a head.

    Args:
        x: Activations of the node's layer at its site.
        name: The node.
    """
    return x[..., name[2], :] if name[0] == "head" else x[..., name[2]]


def measure_sources(
    run: CircuitRun, names: Sequence[Name], tokens: Sequence[int], slopes: Slopes
) -> dict[Name, tuple[np.ndarray, np.ndarray]]:
    """Per source the change per text of every A_t `[n, targets]` and of every value's log-odds `[n, values]`.

    Args:
        run: Model, task and means.
        names: Heads and neurons, sources and targets alike.
        tokens: Ids of the input tokens that are sources as well.
        slopes: Per batch the weights w.
    """
    base = observe_targets(run, names, slopes, None)
    out: dict[Name, tuple[np.ndarray, np.ndarray]] = {}
    sources: list[Name] = [*names, *(("input", -1, token) for token in tokens)]
    for source in progress_bar(sources, desc="edges", unit="node"):
        ablated = observe_targets(run, names, slopes, source)
        out[source] = (ablated[0] - base[0], ablated[1] - base[1])
    return out


def observe_targets(
    run: CircuitRun, names: Sequence[Name], slopes: Slopes, source: Name | None
) -> tuple[Float[np.ndarray, "n targets"], Float[np.ndarray, "n values"]]:
    """Every A_t and every value's log-odds per text, with one source mean-ablated.

    Args:
        run: Model, task and means.
        names: The targets t.
        slopes: Per batch the weights w.
        source: The ablated node; None ablates nothing.
    """
    model, task = run.model, run.task
    targets = np.zeros((len(task.examples), len(names)))
    odds = np.zeros((len(task.examples), len(task.ids)))
    hooks = {models.hook_name(model, name[1], site_of(name)) for name in names}
    for (rows, batch), (_, w) in zip(run.batches(), slopes, strict=True):
        # recorded after the ablation, so that an ablated node shows its ablated activation
        with _without(run, source, batch.tokens), record_hooks(model, hooks, Tensor.detach) as activations:
            logits = inference.forward_batch(model, batch)
        assert logits is not None
        odds[rows] = read_log_odds(logits, batch, task.at, list(task.ids.values())).double().cpu().numpy()
        for column, name in enumerate(names):
            x = activations[models.hook_name(model, name[1], site_of(name))]
            number = (w[name] * pick(x, name)).flatten(1).sum(dim=1)
            # w includes the text's weight in m: dividing by it gives one number per text of the size of m
            targets[rows, column] = number.double().cpu().numpy() / task.weights[rows]
    return targets, odds


@contextmanager
def _without(run: CircuitRun, source: Name | None, tokens: Tensor) -> Iterator[None]:
    """Mean-ablate one head, neuron or input token for the length of a block."""
    if source is None:
        yield
        return
    if source[0] == "input":
        occurrences = tokens == source[2]

        def level(x: Tensor, **_: Any) -> Tensor:
            return torch.where(occurrences[..., None], Means.at(run.means.embed, x.shape[1]).to(x.dtype), x)

        with temporary_hooks(run.model, [(models.hook_name(run.model, 0, "resid_pre"), level)]):
            yield
        return
    one = Nodes.of(run.model, *(([source[1:]], ()) if source[0] == "head" else ((), [source[1:]])))
    with run.gated((~one).flat().float().to(models.info(run.model).device)):
        yield


def intervals(task: ValueTask, change: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "m 3"]:
    """Contrasts between the poles with their 95 % intervals (Welch).

    Args:
        task: Gives the pole of each text.
        change: One row per text, one column per quantity.

    Returns:
        est, lo, hi per column of `change`.
    """
    plus, minus = change[task.signs > 0], change[task.signs < 0]
    estimate = plus.mean(axis=0) - minus.mean(axis=0)
    out = np.stack([estimate] * 3, axis=1)
    # a change that is the same on all texts (mostly 0) has an interval of zero width
    moved = (np.ptp(plus, axis=0) > 0) | (np.ptp(minus, axis=0) > 0)
    if len(plus) > 1 and len(minus) > 1 and moved.any():
        interval = stats.ttest_ind(plus[:, moved], minus[:, moved], equal_var=False).confidence_interval(0.95)
        out[moved, 1], out[moved, 2] = containing(estimate[moved], interval.low, interval.high)
    return out
