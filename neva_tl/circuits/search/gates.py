"""Gates on heads and neurons, between an activation (1) and its mean over the task's texts (0).

    a <- mean[p] + g (a - mean[p]),      p = the token's position in its text.

g = 0 is mean ablation (resolved by position, as is usual for circuits; Wang et al. 2022), g = 1 changes nothing, and the
path between is the integration path of `search`. Embeddings are never gated: "nothing" is the model whose heads and neurons
all carry their means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.circuits.search.nodes import Nodes
from neva_tl.circuits.search.task import ValueTask, read_log_odds
from neva_tl.core.arguments import check_arguments
from neva_tl.core.brief import brief
from neva_tl.core.errors import WorkError
from neva_tl.models import inference
from neva_tl.models.hooks import temporary_hooks

#: Positions reached by fewer texts than this use the mean over all positions except the first.
ENOUGH = 8
TOKEN_BUDGET = 2048


@dataclass(frozen=True, eq=False)
class Means:
    """Mean activations by position in the text; the last row serves all later positions.

    Attributes:
        z: Per layer `[n_positions, n_heads, d_head]`.
        post: Per layer `[n_positions, d_mlp]`.
        embed: `[n_positions, d_model]`, the input of the first block, over the - texts only: the average input when the
            value is not expressed.

    Example:
        >>> task = nv.circuits.value_task(model, pairs, "benevolence", per_pole=2, at="last")
        >>> means = nv.circuits.mean_activations(model, task)
        >>> len(means.post), means.post[0].shape[1]  # layers, neurons
        (4, 384)
    """

    z: tuple[Float[Tensor, "p h c"], ...]
    post: tuple[Float[Tensor, "p k"], ...]
    embed: Float[Tensor, "p d"]

    __repr__ = brief

    @staticmethod
    def at(table: Tensor, n: int) -> Tensor:
        """Rows of a table of means for positions 0 to n - 1.

        Args:
            table: `[n_positions, ...]`.
            n: Length of the text in tokens.
        """
        return table[torch.arange(n, device=table.device).clamp_max(len(table) - 1)]


@check_arguments
def mean_activations(model: models.Model, task: ValueTask) -> Means:
    """Means over both poles of a task (embeddings: the - pole), position by position.

    Args:
        model: A TransformerLens model.
        task: The texts.

    Example:
        >>> task = nv.circuits.value_task(model, pairs, "benevolence", per_pole=2, at="last")
        >>> nv.circuits.mean_activations(model, task).embed.shape[1]
        128
    """
    facts = models.info(model)
    names = {models.hook_name(model, 0, "resid_pre"): ("embed", 0)}
    for layer in range(facts.n_layers):
        names |= {models.hook_name(model, layer, site): (site, layer) for site in ("z", "post")}
    sums: dict[tuple[str, int], Tensor] = {}
    counts, minus_counts = torch.zeros(0, device=facts.device), torch.zeros(0, device=facts.device)
    for rows, batch in inference.batches(model, task.examples, token_budget=TOKEN_BUDGET, chat=task.chat):
        minus = torch.as_tensor(task.signs[rows] < 0, device=batch.mask.device)[:, None] & batch.mask
        counts = _add(counts, batch.mask.sum(dim=0).float())
        minus_counts = _add(minus_counts, minus.sum(dim=0).float())

        def summing(key: tuple[str, int], mask: Tensor = batch.mask, minus: Tensor = minus) -> Callable[..., None]:
            def add_batch(x: Tensor, **_: Any) -> None:
                batch_sum = torch.einsum("bn,bn...->n...", (minus if key[0] == "embed" else mask).float(), x.float())
                sums[key] = _add(sums[key], batch_sum) if key in sums else batch_sum

            return add_batch

        with temporary_hooks(model, [(name, summing(key)) for name, key in names.items()]):
            inference.forward_batch(model, batch, logits=False)
    means = {key: _by_position(total, minus_counts if key[0] == "embed" else counts) for key, total in sums.items()}
    layers = range(facts.n_layers)
    return Means(tuple(means["z", i] for i in layers), tuple(means["post", i] for i in layers), means["embed", 0])


def _add(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two tables, the shorter one padded with zeros."""
    if len(a) < len(b):
        a, b = b, a
    out = a.clone()
    out[: len(b)] += b
    return out


def _by_position(total: Tensor, counts: Tensor) -> Tensor:
    """Means from sums and counts; rare positions get the pooled mean, which is also the last row."""
    divisors = counts.reshape(-1, *[1] * (total.dim() - 1))
    mean = total / divisors.clamp_min(1)
    rare = counts < ENOUGH
    rare[0] = False  # the first token (BOS, an attention sink) differs from all others
    if len(counts) > 1:
        pooled = total[1:].sum(dim=0) / counts[1:].sum()
        mean[rare] = pooled
        mean = torch.cat([mean, pooled[None]])
    return mean


@contextmanager
def gated(
    model: models.Model,
    means: Means,
    heads: Float[Tensor, "n_layers n_heads"] | None,
    neurons: Float[Tensor, "n_layers d_mlp"] | None,
) -> Iterator[None]:
    """Put gates on the model for the length of a block; gradients flow into the gates.

    A layer whose gates are all exactly 1 and need no gradient gets no hook.

    Args:
        model: A TransformerLens model.
        means: Activations at gate 0.
        heads: Gates of the heads, or None for no gates on heads.
        neurons: Gates of the neurons, or None for no gates on neurons.
    """
    hooks = []
    for layer in range(models.info(model).n_layers):
        for site, table, gates in (("z", means.z, heads), ("post", means.post, neurons)):
            if gates is None or (not gates.requires_grad and bool((gates[layer] == 1).all())):
                continue
            row = gates[layer][:, None] if site == "z" else gates[layer]
            hooks.append((models.hook_name(model, layer, site), _gate(table[layer], row)))
    with temporary_hooks(model, hooks):
        yield


def _gate(table: Tensor, gates: Tensor) -> Callable[..., Tensor]:
    def mix(x: Tensor, **_: Any) -> Tensor:
        mean = Means.at(table, x.shape[1]).to(x.dtype)
        if mean.shape != x.shape[1:]:
            raise WorkError(f"means of shape {tuple(mean.shape)} do not fit activations {tuple(x.shape)}")
        return torch.lerp(mean.expand_as(x), x, gates.to(x.dtype).expand_as(x))

    return mix


def text_log_odds(
    model: models.Model, task: ValueTask, means: Means | None = None, nodes: Nodes | None = None
) -> Float[np.ndarray, "n n_values"]:
    """Log-odds of every value's words on every text, with everything outside the nodes mean-ablated.

    Args:
        model: A TransformerLens model.
        task: The texts and the values' tokens.
        means: Activations of ablated nodes; None ablates nothing.
        nodes: Heads and neurons that keep their activations; None keeps all.

    Returns:
        `[n, n_values]`, columns in the order of `task.ids`.
    """
    device = models.info(model).device
    heads = neurons = None
    if nodes is not None:
        heads, neurons = nodes.heads.float().to(device), nodes.neurons.float().to(device)
    out = np.zeros((len(task.examples), len(task.ids)))
    for rows, batch in inference.batches(model, task.examples, token_budget=TOKEN_BUDGET, chat=task.chat):
        with gated(model, means, heads, neurons) if means is not None else nullcontext():
            logits = inference.forward_batch(model, batch)
        assert logits is not None
        odds = read_log_odds(logits, batch, task.at, list(task.ids.values()))
        out[rows] = odds.double().cpu().numpy()
    return out


def contrast(task: ValueTask, per_text: Float[np.ndarray, "*shape"]) -> Any:
    """Contrast m of per-text numbers: mean over + texts minus mean over - texts.

    Args:
        task: Weights the texts.
        per_text: `[n, ...]`.
    """
    return np.tensordot(task.weights, per_text, axes=1)
