"""Collect MLP activations on contrastive prompts as streaming, mergeable statistics.

No activation cache is kept: every prompt is pooled over its answer tokens on the device, and the pooled vectors update
count, mean and M2 (sum of squared deviations) per (value, pole, fold, layer, neuron) by Chan, Golub and LeVeque's
pairwise rule. Folds are hashes of the prompt's cluster, so that the two halves of a split-half check share no frame.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from safetensors.numpy import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from neva_tl import inference, models
from neva_tl.errors import InputError
from neva_tl.prompts import ContrastSet
from neva_tl.values import value as lookup

N_FOLDS = 8
POLES = ("+", "-")
Pooling = Literal["mean", "last"]

#: Arrays with a (value, pole, fold) or (value, fold) grid in front: merged as moments.
_MOMENTS = ("mean", "m2", "positive", "gate_mean", "gate_m2", "gate_positive")
_DIFFS = ("diff_mean", "diff_m2")


@dataclass(frozen=True, eq=False)
class Samples:
    """Pooled activations of single prompts: what probes, sign flips and shuffles need.

    Attributes:
        h: `[n_rows, n_layers, d_mlp]`, float32; an array or a memory-mapped `.npy` file.
        table: one row per prompt: `value`, `pole`, `pair_id`, `cluster`, `split`, `fold`, in the order of `h`.
    """

    h: np.ndarray
    table: pd.DataFrame


@dataclass(frozen=True, eq=False)
class ActivationStats:
    """Moments of pooled `hook_post` (and the gate alone, on gated models) per value, pole, fold, layer and neuron.

    Shapes: v values, p poles (0 is +, 1 is -), f folds, l layers, k neurons of a layer (d_mlp), d d_model.

    Attributes:
        values: the v values, in circle order.
        n: `[v, p, f]` prompts counted.
        mean, m2: `[v, p, f, l, k]` mean and sum of squared deviations of the pooled activation.
        positive: `[v, p, f, l, k]` mean share of answer tokens on which the activation is above 0.
        diff_n: `[v, f]` pairs counted; diff_mean, diff_m2: `[v, f, l, k]` moments of plus minus minus within pairs.
        resid: `[v, p, l, d]` mean of `resid_post` pooled over the same tokens.
        gate_mean, gate_m2, gate_positive: as above for `act(gate)` alone; None where the MLP has no gate.
        info, fingerprint: of the model; prompt_hash: of the contrast set; pooling: `mean` or `last`.
        samples: pooled activations of single prompts, when asked for.
    """

    values: tuple[str, ...]
    n: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    positive: np.ndarray
    diff_n: np.ndarray
    diff_mean: np.ndarray
    diff_m2: np.ndarray
    resid: np.ndarray
    gate_mean: np.ndarray | None = None
    gate_m2: np.ndarray | None = None
    gate_positive: np.ndarray | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    prompt_hash: str = ""
    pooling: str = "mean"
    samples: Samples | None = None

    @property
    def n_layers(self) -> int:
        """Layers of the model."""
        return int(self.mean.shape[-2])

    @property
    def d_mlp(self) -> int:
        """Neurons of a layer."""
        return int(self.mean.shape[-1])

    def index(self, value: str) -> int:
        """Row of a value.

        Raises:
            InputError: the value is unknown to the theory, or was not collected.
        """
        lookup(value)
        if value not in self.values:
            raise InputError(f"{value} was not collected: these statistics hold {', '.join(self.values)}")
        return self.values.index(value)

    def moments(
        self, value: str, pole: str, fold: int | Sequence[int] | None = None, site: str = "post"
    ) -> tuple[int, Float[np.ndarray, "l k"], Float[np.ndarray, "l k"]]:
        """`(n, mean, M2)` of one pole, over all folds or the given ones (float64)."""
        v, p = self.index(value), POLES.index(pole)
        mean, m2 = self._site(site)
        return _pooled(self.n[v, p], mean[v, p], m2[v, p], fold)

    def pair_moments(
        self, value: str, fold: int | Sequence[int] | None = None
    ) -> tuple[int, Float[np.ndarray, "l k"], Float[np.ndarray, "l k"]]:
        """`(n, mean, M2)` of within-pair differences (+ minus -), over all folds or the given ones (float64)."""
        v = self.index(value)
        return _pooled(self.diff_n[v], self.diff_mean[v], self.diff_m2[v], fold)

    def delta(self, value: str, site: str = "post") -> Float[np.ndarray, "l k"]:
        """`mean(+) - mean(-)` per neuron: the unit of an amplification."""
        return self.moments(value, "+", site=site)[1] - self.moments(value, "-", site=site)[1]

    def sd(self, value: str, site: str = "post") -> Float[np.ndarray, "l k"]:
        """Pooled within-pole standard deviation per neuron (n - 1 in each pole)."""
        n_plus, _, m2_plus = self.moments(value, "+", site=site)
        n_minus, _, m2_minus = self.moments(value, "-", site=site)
        return np.sqrt((m2_plus + m2_minus) / max(n_plus + n_minus - 2, 1))

    def direction(self, value: str) -> Float[np.ndarray, "l d"]:
        """Mean-difference direction of the residual stream per layer: `mean(resid_post | +) - mean(resid_post | -)`."""
        plus, minus = self.resid[self.index(value)].astype(np.float64)
        return plus - minus

    def _site(self, site: str) -> tuple[np.ndarray, np.ndarray]:
        if site == "post":
            return self.mean, self.m2
        if site == "gate" and self.gate_mean is not None and self.gate_m2 is not None:
            return self.gate_mean, self.gate_m2
        raise InputError(f"no statistics for site {site!r}: this model has post" + (", gate" if self.gated else ""))

    @property
    def gated(self) -> bool:
        """Whether the gate's own moments were collected."""
        return self.gate_mean is not None

    def merge(self, other: ActivationStats) -> ActivationStats:
        """Statistics of both collections together (another process, machine or file of prompts).

        Raises:
            InputError: the two come from different models, poolings or values, or one of them lacks the gate.
        """
        if (self.fingerprint, self.values, self.pooling) != (other.fingerprint, other.values, other.pooling):
            raise InputError("statistics of different models, values or poolings cannot be merged")
        if self.gated != other.gated:
            raise InputError("statistics with and without the gate's moments cannot be merged: collect both alike")
        out = _Accumulator.of(self)
        out.merge(other)
        return replace(
            out.finish(),
            info=self.info,
            fingerprint=self.fingerprint,
            pooling=self.pooling,
            prompt_hash=hashlib.sha256("".join(sorted((self.prompt_hash, other.prompt_hash))).encode()).hexdigest(),
        )

    def save(self, path: str | Path) -> Path:
        """Write `PATH.json` and `PATH.safetensors` (samples are not saved: ask for a sample file when collecting)."""
        path = Path(path).with_suffix("")
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)}
        meta = {
            "schema": 1,
            "kind": "activation_stats",
            "values": list(self.values),
            "info": dict(self.info),
            "fingerprint": dict(self.fingerprint),
            "prompt_hash": self.prompt_hash,
            "pooling": self.pooling,
        }
        tensor_file, json_file = path.with_suffix(".safetensors"), path.with_suffix(".json")
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, f"{tensor_file}.tmp")
        os.replace(f"{tensor_file}.tmp", tensor_file)
        Path(f"{json_file}.tmp").write_text(json.dumps(meta, indent=1))
        os.replace(f"{json_file}.tmp", json_file)
        return json_file

    @classmethod
    def load(cls, path: str | Path) -> ActivationStats:
        """Read statistics written by `save`.

        Raises:
            InputError: a file is missing or holds something else.
        """
        path = Path(path).with_suffix("")
        json_file, tensor_file = path.with_suffix(".json"), path.with_suffix(".safetensors")
        for file in (json_file, tensor_file):
            if not file.exists():
                raise InputError(f"{file} does not exist: statistics are a .json and a .safetensors side by side")
        try:
            meta = json.loads(json_file.read_text())
        except json.JSONDecodeError as error:
            raise InputError(f"{json_file} is not valid JSON ({error}): collect again") from error
        if meta.get("kind") != "activation_stats":
            raise InputError(f"{json_file} does not hold activation statistics")
        keep = ("info", "fingerprint", "prompt_hash", "pooling")
        return cls(values=tuple(meta["values"]), **load_file(str(tensor_file)), **{name: meta[name] for name in keep})

    @classmethod
    def from_samples(
        cls,
        h: Float[np.ndarray, "n l k"],
        table: pd.DataFrame,
        *,
        resid: Float[np.ndarray, "n l d"] | None = None,
        positive: Float[np.ndarray, "n l k"] | None = None,
        keep: bool = True,
        **meta: Any,
    ) -> ActivationStats:
        """Statistics of pooled activations that are already at hand (planted data, shuffled labels).

        Args:
            h: pooled activations of n prompts.
            table: `value`, `pole`, `pair_id`, `cluster` of the rows (`fold` is made from the cluster where absent).
            resid: pooled `resid_post`; zeros of width 1 where absent.
            positive: share of tokens above 0; where absent, whether the pooled activation is.
            keep: keep `h` as `.samples`.
            meta: `info`, `fingerprint`, `prompt_hash`, `pooling`.
        """
        table = table.reset_index(drop=True)
        if "fold" not in table:
            table = table.assign(fold=[fold_of(c) for c in table["cluster"]])
        values = tuple(v for v in _circle(table["value"]))
        resid = np.zeros((*h.shape[:2], 1), dtype=np.float32) if resid is None else resid
        acc = _Accumulator.empty(values, h.shape[1], h.shape[2], resid.shape[2], gated=False)
        acc.add(table, {"post": h, "positive": (h > 0) if positive is None else positive, "resid": resid})
        return replace(acc.finish(), samples=Samples(h, table) if keep else None, **meta)


def fold_of(cluster: str) -> int:
    """Fold of a cluster: sha256 of its name modulo 8, so that it is the same on every machine."""
    return int.from_bytes(hashlib.sha256(str(cluster).encode()).digest()[:8], "big") % N_FOLDS


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
    acc = _Accumulator.empty(_circle(table["value"]), info.n_layers, info.d_mlp, info.d_model, gated=gate)
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
    return replace(
        acc.finish(),
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
        weight = _pool_weights(batch.answer, pooling)
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


def _pool_weights(answer: Tensor, pooling: Pooling) -> Tensor:
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


def _circle(names: pd.Series) -> tuple[str, ...]:
    from neva_tl.values import in_circle_order

    return in_circle_order(names)


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


def _pooled(
    n: np.ndarray, mean: np.ndarray, m2: np.ndarray, fold: int | Sequence[int] | None
) -> tuple[int, np.ndarray, np.ndarray]:
    """Merge moments along their first axis (folds), in float64."""
    chosen = range(len(n)) if fold is None else ([fold] if isinstance(fold, int) else list(fold))
    count, total, squares = 0, np.zeros(mean.shape[1:]), np.zeros(mean.shape[1:])
    for f in chosen:
        count, total, squares = _chan(count, total, squares, int(n[f]), mean[f], m2[f])
    return count, total, squares


def _chan(
    n_a: int, mean_a: np.ndarray, m2_a: np.ndarray, n_b: int, mean_b: np.ndarray, m2_b: np.ndarray
) -> tuple[int, np.ndarray, np.ndarray]:
    """Moments of the union of two samples (Chan, Golub, LeVeque 1979)."""
    if n_b == 0:
        return n_a, mean_a, m2_a
    n = n_a + n_b
    step = np.asarray(mean_b, dtype=np.float64) - mean_a
    return n, mean_a + step * (n_b / n), m2_a + m2_b + step**2 * (n_a * n_b / n)


class _Accumulator:
    """Moments under construction; float32 storage, float64 arithmetic per update."""

    def __init__(self, values: tuple[str, ...], arrays: dict[str, np.ndarray]) -> None:
        self.values = values
        self.arrays = arrays

    @classmethod
    def empty(cls, values: tuple[str, ...], layers: int, width: int, d_model: int, *, gated: bool) -> _Accumulator:
        grid = (len(values), len(POLES), N_FOLDS)
        names = _MOMENTS if gated else _MOMENTS[:3]
        arrays = {name: np.zeros((*grid, layers, width), dtype=np.float32) for name in names}
        arrays |= {name: np.zeros((len(values), N_FOLDS, layers, width), dtype=np.float32) for name in _DIFFS}
        arrays["n"] = np.zeros(grid, dtype=np.int64)
        arrays["diff_n"] = np.zeros((len(values), N_FOLDS), dtype=np.int64)
        arrays["resid"] = np.zeros((len(values), len(POLES), layers, d_model), dtype=np.float32)
        return cls(values, arrays)

    @classmethod
    def of(cls, stats: ActivationStats) -> _Accumulator:
        arrays = {
            f.name: getattr(stats, f.name).copy()
            for f in fields(stats)
            if isinstance(getattr(stats, f.name), np.ndarray)
        }
        return cls(stats.values, arrays)

    def add(self, table: pd.DataFrame, pooled: Mapping[str, np.ndarray]) -> None:
        """Join pooled activations of the table's rows (whole pairs) to the moments."""
        row = np.arange(len(table))
        keys = table[["value", "pole", "fold"]].reset_index(drop=True)
        for key, group in keys.groupby(["value", "pole", "fold"], sort=False):
            value, pole, fold = str(key[0]), str(key[1]), int(group["fold"].iloc[0])
            self._join((self.values.index(value), POLES.index(pole), fold), row[group.index], pooled)
        paired = table.reset_index(drop=True)
        paired = paired[paired["pair_id"].notna()]
        for key, group in paired.groupby(["value", "fold"], sort=False):
            at = (self.values.index(str(key[0])), int(group["fold"].iloc[0]))
            wide = group.assign(row=group.index).pivot(index="pair_id", columns="pole", values="row")
            if not set(POLES) <= set(wide.columns):
                continue
            wide = wide.dropna().astype(int)
            diff = pooled["post"][wide["+"]].astype(np.float64) - pooled["post"][wide["-"]]
            self._update("diff_n", _DIFFS, at, *_batch_moments(diff))

    def _join(self, at: tuple[int, int, int], rows: np.ndarray, pooled: Mapping[str, np.ndarray]) -> None:
        a = self.arrays
        n_before = int(a["n"][at])
        total = n_before + len(rows)
        v, p, _ = at
        pole_before = int(a["n"][v, p].sum())
        resid = pooled["resid"][rows].astype(np.float64).sum(axis=0)
        a["resid"][v, p] = (a["resid"][v, p] * pole_before + resid) / (pole_before + len(rows))
        sites = [("mean", "m2", "positive", "post", "positive")]
        if "gate" in pooled and "gate_mean" in a:
            sites.append(("gate_mean", "gate_m2", "gate_positive", "gate", "gate_positive"))
        for mean, m2, positive, source, share in sites:
            count, batch_mean, batch_m2 = _batch_moments(pooled[source][rows].astype(np.float64))
            _, a[mean][at], a[m2][at] = _chan(n_before, a[mean][at], a[m2][at], count, batch_mean, batch_m2)
            a[positive][at] = (a[positive][at] * n_before + pooled[share][rows].sum(axis=0)) / total
        a["n"][at] = total

    def _update(
        self, counter: str, names: tuple[str, str], at: tuple[int, ...], n: int, mean: np.ndarray, m2: np.ndarray
    ) -> None:
        a = self.arrays
        count, a[names[0]][at], a[names[1]][at] = _chan(
            int(a[counter][at]), a[names[0]][at], a[names[1]][at], n, mean, m2
        )
        a[counter][at] = count

    def merge(self, other: ActivationStats) -> None:
        """Join finished statistics of the same shape."""
        a = self.arrays
        pole_n, other_n = a["n"].sum(axis=-1), other.n.sum(axis=-1)
        share = (other_n / np.maximum(pole_n + other_n, 1))[..., None, None]
        a["resid"] = (a["resid"] * (1 - share) + other.resid * share).astype(np.float32)
        for at in np.ndindex(*a["n"].shape):
            n_a, n_b = int(a["n"][at]), int(other.n[at])
            if n_b == 0:
                continue
            sites = [("mean", "m2", "positive")]
            if "gate_mean" in a:
                sites.append(("gate_mean", "gate_m2", "gate_positive"))
            for mean, m2, positive in sites:
                b_mean, b_m2, b_positive = (getattr(other, name)[at] for name in (mean, m2, positive))
                _, a[mean][at], a[m2][at] = _chan(n_a, a[mean][at], a[m2][at], n_b, b_mean, b_m2)
                a[positive][at] = (a[positive][at] * n_a + b_positive * n_b) / (n_a + n_b)
            a["n"][at] = n_a + n_b
        for at in np.ndindex(*a["diff_n"].shape):
            self._update("diff_n", _DIFFS, at, int(other.diff_n[at]), other.diff_mean[at], other.diff_m2[at])

    def finish(self) -> ActivationStats:
        arrays: dict[str, Any] = dict(self.arrays)
        return ActivationStats(values=self.values, **arrays)


def _batch_moments(x: Float[np.ndarray, "n l k"]) -> tuple[int, Float[np.ndarray, "l k"], Float[np.ndarray, "l k"]]:
    mean = x.mean(axis=0)
    return len(x), mean, ((x - mean) ** 2).sum(axis=0)
