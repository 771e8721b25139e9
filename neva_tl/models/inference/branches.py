"""Logits after prompts that share their beginnings: each shared token runs once.

A tree is one text with several questions about it: all prompts of a tree begin with the same tokens (the trunk), the prompts of
a branch share more (the stem), and each ends with tokens of its own (the leaf). What all trees begin with (a system message)
runs once for all, then trunks, stems and leaves run in three passes over one key-value cache, whose rows are repeated between
passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models.hooks import record_hooks
from neva_tl.models.inference.prompt_cache import Ids, prompt_batch, run_prompts

#: The prompts of one text: branches of at least one prompt each.
Tree = Sequence[Sequence[Ids]]


def branch_logits(
    model: models.Model,
    trees: Sequence[Tree],
    tokens: Sequence[int],
    *,
    token_budget: int = 8192,
    update: Callable[[Sequence[int], Sequence[Float[np.ndarray, "q k"]]], Any] = lambda _rows, _logits: None,
) -> list[Float[np.ndarray, "q k"]]:
    """Return the logits (float32) of some tokens after every prompt, with shared tokens run once.

    The logits are computed in float32 from the last layer's residual vector, whatever the dtype of the model.

    Args:
        model: A TransformerLens model without hooks.
        trees: Token ids of the prompts, by text and branch.
        tokens: Token ids whose logits are returned.
        token_budget: Largest number of cached tokens, summed over the prompts of a batch of trees (at least one tree).
        update: Called after each batch with the indices of its trees and their logits.

    Returns:
        One array per tree: a row per prompt in reading order, a column per token.

    Raises:
        InputError: The model has hooks, or the prompts of a tree share no token.
    """
    if models.has_hooks(model):
        raise InputError(
            f"{models.info(model).name} carries hooks (from an enclosing edit?): call this outside the block"
        )
    out: list[np.ndarray] = [np.zeros((0, len(tokens)))] * len(trees)
    root = _common([ids for tree in trees for branch in tree for ids in branch]) if trees else ()
    start = (root, _extend(model, [root])) if root else None
    costs = [sum(len(branch) for branch in tree) * max(len(ids) for branch in tree for ids in branch) for tree in trees]
    for rows in _batches(costs, token_budget):
        batch = [trees[i] for i in rows]
        logits = _run(model, batch, tokens, start).cpu().numpy()
        stops = np.cumsum([sum(len(branch) for branch in tree) for tree in batch])
        for i, rows_of_tree in zip(rows, np.split(logits, stops[:-1]), strict=True):
            out[i] = rows_of_tree
        update(rows, [out[i] for i in rows])
    return out


def _batches(costs: Sequence[int], budget: int) -> list[list[int]]:
    """Group indices of similar cost; the sum of a group stays within the budget (at least one index)."""
    groups: list[list[int]] = []
    total = 0
    for i in np.argsort(costs, kind="stable").tolist():
        if not groups or total + costs[i] > budget:
            groups.append([])
            total = 0
        groups[-1].append(i)
        total += costs[i]
    return groups


def _run(
    model: models.Model, trees: Sequence[Tree], tokens: Sequence[int], start: tuple[Ids, models.KVCache] | None
) -> Float[Tensor, "q k"]:
    device = models.info(model).device
    trunks = [_common([ids for branch in tree for ids in branch]) for tree in trees]
    if not all(trunks):
        raise InputError("the prompts of a text share no token: begin each of them with the text")
    if start is None:
        past = _extend(model, trunks)
    else:
        past = start[1].rows(torch.zeros(len(trees), dtype=torch.long, device=device))
        rest = [trunk[len(start[0]) :] for trunk in trunks]
        if any(rest):
            past = _extend(model, rest, past)
    branches = [(i, branch) for i, tree in enumerate(trees) for branch in tree]
    stems = [_common(branch) for _, branch in branches]
    past = past.rows(torch.tensor([i for i, _ in branches], device=device))
    rest = [stem[len(trunks[i]) :] for (i, _), stem in zip(branches, stems, strict=True)]
    if any(rest):
        past = _extend(model, rest, past)
    leaves = [(j, ids[len(stems[j]) :]) for j, (_, branch) in enumerate(branches) for ids in branch]
    past = past.rows(torch.tensor([j for j, _ in leaves], device=device))
    last = models.hook_name(model, models.info(model).n_layers - 1, "resid_post")
    with record_hooks(model, [last], keep=lambda x: x[:, -1].detach().clone()) as streams:
        _extend(model, [ids for _, ids in leaves], past)
    return models.logits_of(model, streams[last], tokens=tokens)


def _extend(model: models.Model, prompts: Sequence[Ids], past: models.KVCache | None = None) -> models.KVCache:
    batch = prompt_batch(model, prompts)
    return run_prompts(model, batch.tokens, batch.mask, past, logits=False)[0]


def _common(prompts: Sequence[Ids]) -> Ids:
    """Return the longest common prefix that leaves every prompt at least one token."""
    first, last = min(prompts), max(prompts)
    room = min(len(ids) for ids in prompts) - 1
    return first[: next((i for i in range(room) if first[i] != last[i]), room)]
