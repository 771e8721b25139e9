"""Collect MLP activations on contrastive prompts as streaming, mergeable statistics.

No activation cache is kept: every prompt is pooled over its answer tokens on the device, and the pooled vectors update
count, mean and M2 (sum of squared deviations) per (value, pole, fold, layer, neuron) by Chan, Golub and LeVeque's
pairwise rule. Folds are hashes of the prompt's cluster, so that the two halves of a split-half check share no frame.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from neva_tl import inference, models
from neva_tl._accumulate import N_FOLDS, POLES, Accumulator, fold_of
from neva_tl._stats import ActivationStats, Samples, finish
from neva_tl.errors import InputError
from neva_tl.prompts import ContrastSet
from neva_tl.values import in_circle_order

__all__ = ["N_FOLDS", "POLES", "ActivationStats", "Pooling", "Samples", "collect", "fold_of"]

Pooling = Literal["mean", "last"]


def collect(
    model: Any,
    pairs: ContrastSet,
    *,
    pooling: Pooling = "mean",
    gate: bool = True,
    samples: bool | str | Path = False,
    split: str | None = "train",
    chat: bool | None = None,
    token_budget: int = 4096,
    chunk: int = 128,
    progress: bool = False,
) -> ActivationStats:
    """Collect contrast statistics of every MLP neuron.

    Each text is tokenised with BOS by the model's own convention, run once up to the last block (the LM head is skipped
    where the model allows), and `hook_post` is pooled over its answer tokens (without a marked answer: all tokens but
    BOS). Padding never counts.

    Args:
        model: a TransformerLens model (`neva_tl.load`).
        pairs: contrastive prompts.
        pooling: `mean` over the answer tokens, or the `last` one.
        gate: also collect `act(gate)` alone on gated models (NPTI's site).
        samples: keep every prompt's pooled activations: True in memory, a path as a memory-mapped `.npy`.
        split: which split to use (selection must see `train` only); None takes all rows.
        chat: force or forbid the chat template; None uses it where the tokenizer has one.
        token_budget: tokens of a batch, padding included.
        chunk: prompts whose pooled activations are held before they join the moments (bounds memory).
        progress: show a progress bar on stderr.

    Raises:
        InputError: a value lacks a pole in this split, a text exceeds the context, the model is a mixture of experts, or
            an activation is not finite (the message names layer and prompt), or the pooling is unknown.
    """
    if pooling not in get_args(Pooling):
        raise InputError(f"unknown pooling {pooling!r}: choose one of {', '.join(get_args(Pooling))}")
    subset = pairs if split is None else pairs.split(split)
    info = models.info(model)
    models.check_mlp(model)
    table = subset.df.reset_index(drop=True)
    table = table.assign(fold=[fold_of(c) for c in table["cluster"]])
    _check_poles(table, split)
    examples = subset.examples()
    gate = gate and info.gated
    acc = Accumulator.empty(in_circle_order(table["value"]), info.n_layers, info.d_mlp, info.d_model, gated=gate)
    store = _sample_store(samples, (len(table), info.n_layers, info.d_mlp))
    bar = tqdm(total=len(table), desc="collect", unit="prompt", file=sys.stderr, disable=not progress)
    with bar:
        for rows in _chunks(table, chunk):
            part = [examples[i] for i in rows]
            pooled = _pool(model, part, pooling=pooling, gate=gate, chat=chat, token_budget=token_budget)
            _check_finite(pooled, table, rows)
            acc.add(table.iloc[rows], pooled)
            if store is not None:
                store[rows] = pooled["post"]
            bar.update(len(rows))
    keep = None if store is None else Samples(store, table)
    return finish(
        acc,
        info=asdict(info),
        fingerprint=models.fingerprint(model),
        prompt_hash=subset.hash,
        pooling=pooling,
        samples=keep,
    )


def _pool(
    model: Any, examples: Sequence[Any], *, pooling: Pooling, gate: bool, chat: bool | None, token_budget: int
) -> dict[str, np.ndarray]:
    """Pooled activations of some prompts: `post`, `positive` (and `gate`, `gate_positive`) `[n, l, k]`, `resid` `[n, l, d]`."""
    info = models.info(model)
    shape = (len(examples), info.n_layers, info.d_mlp)
    out = {name: np.empty(shape, dtype=np.float32) for name in ("post", "positive")}
    if gate:
        out |= {name: np.empty(shape, dtype=np.float32) for name in ("gate", "gate_positive")}
    out["resid"] = np.empty((len(examples), info.n_layers, info.d_model), dtype=np.float32)
    for rows, batch in inference.batches(model, examples, token_budget=token_budget, chat=chat):
        weight = pool_weights(batch.answer, pooling)
        seen: dict[tuple[str, int], int] = {}

        def record(
            x: Tensor,
            name: str,
            layer: int,
            rows: Any = rows,
            weight: Tensor = weight,
            seen: dict[tuple[str, int], int] = seen,
        ) -> None:
            seen[name, layer] = seen.get((name, layer), 0) + 1
            # out of place and reduced at once: nothing of the batch outlives the hook
            w = weight.to(x.device)
            out[name][rows, layer] = torch.einsum("bn,bnk->bk", w, x.float()).cpu().numpy()
            share = {"post": "positive", "gate": "gate_positive"}.get(name)
            if share is not None:
                out[share][rows, layer] = torch.einsum("bn,bnk->bk", w, (x > 0).float()).cpu().numpy()

        with ExitStack() as stack:
            for layer in range(info.n_layers):
                for name in ("post", "gate", "resid") if gate else ("post", "resid"):
                    site = {"resid": "resid_post"}.get(name, name)
                    handle = models.add_hook(
                        model,
                        models.hook_name(model, layer, site),
                        lambda x, hook=None, name=name, layer=layer: record(_site_value(model, name, x), name, layer),
                    )
                    stack.callback(handle.remove)
            inference.forward_batch(model, batch, logits=False)
        _check_fired(seen, info.n_layers, gate)
    return out


def _site_value(model: Any, name: str, x: Tensor) -> Tensor:
    """The recorded quantity at a site: the gate's hook sees its input, so its activation function is applied here."""
    return models.activation(model)(x) if name == "gate" else x


def pool_weights(answer: Tensor, pooling: Pooling) -> Tensor:
    """Weights `[b, n]` that sum to 1 over each row's pooled tokens."""
    if not bool(answer.any(dim=1).all()):
        raise InputError("a prompt has no answer token to pool over: its text is empty after tokenisation")
    if pooling == "mean":
        return answer.float() / answer.sum(dim=1, keepdim=True)
    position = torch.arange(answer.shape[1], device=answer.device)
    last = torch.where(answer, position, -1).amax(dim=1)
    return torch.nn.functional.one_hot(last, answer.shape[1]).float()


def _check_fired(seen: Mapping[tuple[str, int], int], n_layers: int, gate: bool) -> None:
    """Every hook must fire exactly once per forward: a silent miss would leave garbage in the buffers."""
    for layer in range(n_layers):
        for name in ("post", "gate", "resid") if gate else ("post", "resid"):
            if seen.get((name, layer), 0) != 1:
                raise InputError(
                    f"the hook for {name} at layer {layer} fired {seen.get((name, layer), 0)} times in one forward pass: "
                    "this architecture is not supported by the collector"
                )


def _check_finite(pooled: Mapping[str, np.ndarray], table: pd.DataFrame, rows: np.ndarray) -> None:
    bad = [
        (int(layer), int(row), name)
        for name, array in pooled.items()
        for row, layer in np.argwhere(~np.isfinite(array).all(axis=-1))
    ]
    if not bad:
        return
    # the first layer to go wrong is where the fault is; later ones inherit it
    layer, row, name = min(bad, key=lambda found: found[:2])
    text = str(table["text"].iloc[rows[row]])
    raise InputError(
        f"{name} activations are not finite at layer {layer} on prompt {text[:60]!r}: "
        "the weights or the number format are at fault (try dtype float32)"
    )


def _check_poles(table: pd.DataFrame, split: str | None) -> None:
    where = f" in split {split!r}" if split else ""
    if not len(table):
        raise InputError(f"the contrast set has no rows{where}")
    for name, group in table.groupby("value"):
        for pole in POLES:
            if (group["pole"] == pole).sum() < 2:
                raise InputError(f"{name} has fewer than two {pole!r} texts{where}: both poles are needed")


def _chunks(table: pd.DataFrame, size: int) -> Iterator[np.ndarray]:
    """Row numbers in chunks that never part a pair, value by value (so that a chunk touches few moments)."""
    unit = table["pair_id"].where(table["pair_id"].notna(), "row " + table.index.astype(str))
    order = pd.factorize(table["value"].astype(str) + "\0" + unit.astype(str), sort=True)[0]
    rows = np.argsort(order, kind="stable")
    start = 0
    while start < len(rows):
        stop = min(start + size, len(rows))
        while stop < len(rows) and order[rows[stop]] == order[rows[stop - 1]]:
            stop += 1
        yield rows[start:stop]
        start = stop


def _sample_store(samples: bool | str | Path, shape: tuple[int, int, int]) -> np.ndarray | None:
    if samples is False:
        return None
    if samples is True:
        return np.empty(shape, dtype=np.float32)
    path = Path(samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
