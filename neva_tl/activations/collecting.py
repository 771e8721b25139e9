"""Collect MLP activations on contrastive prompts as streaming, mergeable statistics.

No activation cache is kept: every prompt is pooled over its answer tokens on the device, and the pooled vectors update
count, mean and M2 (sum of squared deviations) per (value, pole, fold, layer, neuron) by Chan, Golub and LeVeque's
pairwise rule. Folds are hashes of the prompt's cluster, so that the two halves of a split-half check share no frame.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from neva_tl import models
from neva_tl.activations.accumulate import N_FOLDS, POLES, Accumulator, Membership, Part, Pooled, Reduced, fold_of
from neva_tl.activations.plan import Texts, most_rows, packed, token_budget_for, tokenised
from neva_tl.activations.pooling import Pooling, Recorder, check_pooling
from neva_tl.activations.prefixes import Prefixes
from neva_tl.activations.ranks import World, all_reduced, world
from neva_tl.activations.state import Checkpoint, plan_hash
from neva_tl.activations.stats import ActivationStats, Samples, finish
from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.values import in_circle_order
from neva_tl.models.inference.encoding import pad
from neva_tl.prompts import ContrastSet
from neva_tl.prompts.contrast import each_example

__all__ = ["N_FOLDS", "POLES", "ActivationStats", "Pooling", "Samples", "collect", "fold_of"]


def collect(
    model: models.Model,
    pairs: ContrastSet,
    *,
    pooling: Pooling = "mean",
    gate: bool = True,
    samples: bool | str | Path = False,
    split: str | None = "train",
    chat: bool | None = None,
    stop_at_layer: int | None = None,
    token_budget: int | None = None,
    share_prefixes: bool | None = None,
    checkpoint: str | Path | None = None,
    save_every: float = 5.0,
    progress: bool = False,
) -> ActivationStats:
    """Collect contrast statistics of every MLP neuron.

    Each text is tokenised with BOS by the model's own convention, run once without the LM head, and `hook_post` is pooled
    over its answer tokens (without a marked answer: all tokens but BOS). Padding never counts. Texts of like length run
    together; what does not fit in memory is halved until it does.

    Under `torch.distributed` the batches are shared out among the processes, and all of them get the whole result.

    Args:
        model: a TransformerLens model (`neva_tl.load`).
        pairs: contrastive prompts.
        pooling: over the answer tokens: their `mean`, the `last`, or the greatest value of each neuron (`max`; the residual
            stream is then the mean's). `token` counts every answer token as an observation (no pairs then).
        gate: also collect `act(gate)` alone on gated models (NPTI's site).
        samples: keep every prompt's pooled activations: True in memory, a path as a memory-mapped `.npy`.
        split: which split to use (selection must see `train` only); None takes all rows.
        chat: force or forbid the chat template; None uses it where the tokenizer has one.
        stop_at_layer: collect the layers below this one, and run no others.
        token_budget: tokens of a batch, padding included; default by the device (`plan.token_budget_for`).
        share_prefixes: run what the texts of a batch have in front of their answers once, and reuse its keys and values.
            Default: where that saves a fifth of the tokens or more (with `stop_at_layer` never).
        checkpoint: write the state to files beginning so every few seconds, and go on from them; they are removed at the
            end. After a kill the result is the same, bit for bit.
        save_every: seconds between two states (longer where writing them takes long; 0: after every batch).
        progress: show a progress bar on stderr.

    Raises:
        InputError: a value lacks a pole in this split, a text exceeds the context, the model is a mixture of experts, or
            an activation is not finite (the message names layer and prompt), the pooling is unknown, samples of single
            tokens are asked for, the model lacks the layer to stop at, or a checkpoint belongs to another collection.
        WorkError: one text alone exceeds the memory, or another process was lost.
    """
    check_pooling(pooling)
    if pooling == "token" and samples is not False:
        raise InputError("pooling 'token' keeps no samples: a sample is one vector a text (use mean, last or max)")
    here = world()
    if samples is True and not (here.alone and checkpoint is None):
        raise InputError("samples of many processes, or with a checkpoint, need a file: samples='PATH.npy'")
    info = models.info(model)
    layers = info.n_layers if stop_at_layer is None else stop_at_layer
    if not 1 <= layers <= info.n_layers:
        raise InputError(f"stop_at_layer = {layers} is not possible: {info.name} has {info.n_layers} layers")
    if share_prefixes and layers < info.n_layers:
        raise InputError("prompts are run once (share_prefixes) only where all layers are: leave out one of the two")
    subset = pairs if split is None else pairs.split(split)
    models.check_mlp(model)
    table = subset.df.assign(fold=[fold_of(c) for c in subset.df["cluster"]])
    _check_poles(table, split)
    texts = tokenised(model, each_example(table), chat)
    budget = token_budget or token_budget_for(torch.device(info.device).type, info.d_mlp)
    # single tokens make no pairs: there every text may run by itself
    units = np.arange(len(table)) if pooling == "token" else _units(table)
    batches = packed(texts.lengths, units, budget, most_rows(budget))
    values = in_circle_order(table["value"])
    gate = gate and info.gated
    acc = Accumulator.empty(values, models.layer_devices(model)[:layers], info.d_mlp, info.d_model, gated=gate)
    fingerprint = models.fingerprint(model)
    state = None
    done: set[int] = set()
    if checkpoint is not None:
        settings = {
            "model": fingerprint,
            "prompts": subset.hash,
            "pooling": pooling,
            "gate": gate,
            "layers": layers,
            "split": split,
            "batches": plan_hash(batches),
        }
        state = Checkpoint(Path(checkpoint), settings, here, save_every)
        done = state.restore(acc)
    store = _sample_store(samples, (len(table), layers, info.d_mlp), here, fresh=not done)
    run = _Run(
        model=model,
        texts=texts,
        table=table,
        member=Membership.of(table, values),
        recorder=Recorder(model, gate=gate, pooling=pooling, layers=layers),
        prefixes=Prefixes.of(model, texts, batches, share_prefixes) if layers == info.n_layers else None,
        units=units,
        by_token=pooling == "token",
        limit=None if state is None else state.limit,
    )
    mine = [number for number in range(len(batches)) if here.mine(number)]
    bar = tqdm(
        total=sum(len(batches[number]) for number in mine),
        initial=sum(len(batches[number]) for number in mine if number in done),
        desc="collect",
        unit="prompt",
        file=sys.stderr,
        disable=not (progress and here.first),
    )
    with bar, run.recorder.on():
        for number in mine:
            if number in done:
                continue
            rows = batches[number]
            run.batch(rows, acc, store)
            bar.update(len(rows))
            if state is not None:
                state.done.append(number)
                state.limit = run.limit
                if state.due():
                    _flush(store)
                    state.save(acc)
    if state is not None and not here.alone:
        # others may be lost while sums are taken: what is done here is kept
        _flush(store)
        state.save(acc)
    all_reduced(acc, here)
    _flush(store)
    here.wait()
    if state is not None:
        state.remove()
    return finish(
        acc,
        info=asdict(info),
        fingerprint=fingerprint,
        prompt_hash=subset.hash,
        pooling=pooling,
        samples=None if store is None else Samples(store, table),
    )


@dataclass
class _Run:
    """What every batch of a collection needs.

    Attributes:
        units: number of each row's pair.
        limit: padded tokens that fit in memory, where more did not.
    """

    model: models.Model
    texts: Texts
    table: pd.DataFrame
    member: Membership
    recorder: Recorder
    prefixes: Prefixes | None
    units: np.ndarray
    by_token: bool
    limit: int | None

    def batch(self, rows: np.ndarray, acc: Accumulator, store: np.ndarray | None) -> None:
        """Run a batch of the plan, in as many passes as memory asks for, and join it to the moments.

        Raises:
            WorkError: a single text does not fit in memory.
        """
        for piece in self._pieces(rows):
            found = self._fitting(piece)
            if found is None:
                # too large: its halves come next
                for half in self._halves(piece):
                    self.batch(half, acc, store)
                continue
            part, pooled = found
            acc.add(part, pooled)
            if store is not None:
                for layer, of_layer in enumerate(pooled):
                    post = of_layer["post"]
                    assert isinstance(post, Tensor)
                    store[piece, layer] = post.cpu().numpy()

    def _pieces(self, rows: np.ndarray) -> list[np.ndarray]:
        """The rows in parts that are not known to be too large."""
        if self.limit is None or self._tokens(rows) <= self.limit or self.units[rows[0]] == self.units[rows[-1]]:
            return [rows]
        return [piece for half in self._halves(rows) for piece in self._pieces(half)]

    def _halves(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two parts of about one size, no pair parted (rows of a pair are neighbours)."""
        starts = np.flatnonzero(np.diff(self.units[rows])) + 1
        middle = starts[np.abs(starts - len(rows) // 2).argmin()]
        return rows[:middle], rows[middle:]

    def _tokens(self, rows: np.ndarray) -> int:
        return len(rows) * int(self.texts.lengths[rows].max())

    def _fitting(self, rows: np.ndarray) -> tuple[Part, list[Pooled]] | None:
        """One forward pass, or one per row of a pair that is too large; None where halves may fit better."""
        single_unit = self.units[rows[0]] == self.units[rows[-1]]
        if self.limit is None or self._tokens(rows) <= self.limit or len(rows) == 1:
            try:
                return self._forward(rows)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if len(rows) == 1:
                    text = str(self.table["text"].iloc[rows[0]])
                    raise WorkError(
                        f"out of memory on a text of {self.texts.lengths[rows[0]]} tokens ({text[:60]!r}): use a smaller "
                        "dtype, another device, or shorter texts"
                    ) from error
                self.limit = self._tokens(rows) // 2
            # outside the handler: its traceback keeps the failed pass's tensors alive
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        if not single_unit:
            return None
        singles = [self._fitting(rows[i : i + 1]) for i in range(len(rows))]
        return self.member.part(rows), _concatenated([single[1] for single in singles if single is not None])

    def _forward(self, rows: np.ndarray) -> tuple[Part, list[Pooled]]:
        part = self.member.part(rows)
        if self.by_token:
            part = part.repeated(self.texts.lengths[rows] - self.texts.starts[rows])
        items = self.texts.encoded(rows)
        batch, past = (pad(self.model, items), None) if self.prefixes is None else self.prefixes.before(items)
        pooled = self.recorder.run(batch, part, past)
        _check_finite(pooled, self.table, rows)
        return part, pooled


def _concatenated(found: Sequence[list[Pooled]]) -> list[Pooled]:
    """Pooled rows of several passes as of one."""

    def joined(layer: int, name: str) -> Tensor:
        parts = [pooled[layer][name] for pooled in found]
        return torch.cat([x for x in parts if isinstance(x, Tensor)])

    return [{name: joined(layer, name) for name in of_layer} for layer, of_layer in enumerate(found[0])]


def _out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: PyTorch says so in several ways, by device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error)
    return any(part in said for part in ("can't allocate memory", "out of memory", "could not create a memory"))


def _check_finite(pooled: Sequence[Pooled], table: pd.DataFrame, rows: np.ndarray) -> None:
    tensors = [
        (layer, name, x.mean if isinstance(x, Reduced) else x)
        for layer, found in enumerate(pooled)
        for name, x in found.items()
    ]
    # a sum is finite only where every term is; one answer a device: asking tensor by tensor would make a GPU wait each time
    if all(_stacked([torch.isfinite(x.sum()) for _, _, x in tensors])):
        return
    # the first layer to go wrong is where the fault is; later ones inherit it. A sum alone may overflow
    found = next((entry for entry in tensors if not bool(torch.isfinite(entry[2]).all())), None)
    if found is None:
        return
    layer, name, x = found
    bad = torch.nonzero(~torch.isfinite(x).all(dim=1))[0, 0]
    of_rows = len(x) == len(rows) and not isinstance(pooled[layer]["post"], Reduced)
    text = str(table["text"].iloc[rows[int(bad) if of_rows else 0]])
    where = "on prompt" if of_rows else f"on one of {len(rows)} prompts, the first of which is"
    raise InputError(
        f"{name} activations are not finite at layer {layer} {where} {text[:60]!r}: "
        "the weights or the number format are at fault (try dtype float32)"
    )


def _stacked(flags: Sequence[Tensor]) -> list[bool]:
    by_device: dict[torch.device, list[Tensor]] = {}
    for flag in flags:
        by_device.setdefault(flag.device, []).append(flag)
    return [bool(torch.stack(group).all()) for group in by_device.values()]


def _check_poles(table: pd.DataFrame, split: str | None) -> None:
    where = f" in split {split!r}" if split else ""
    if not len(table):
        raise InputError(f"the contrast set has no rows{where}")
    for name, group in table.groupby("value"):
        for pole in POLES:
            if (group["pole"] == pole).sum() < 2:
                raise InputError(f"{name} has fewer than two {pole!r} texts{where}: both poles are needed")


def _units(table: pd.DataFrame) -> np.ndarray:
    """Number of each row's pair; a row without one is a unit of its own."""
    value, pair = (pd.factorize(table[name])[0] for name in ("value", "pair_id"))
    single = -1 - np.arange(len(table))
    return pd.factorize(np.where(pair < 0, single, value * (pair.max(initial=0) + 1) + pair))[0]


def _sample_store(
    samples: bool | str | Path, shape: tuple[int, int, int], here: World, *, fresh: bool
) -> np.ndarray | None:
    if samples is False:
        return None
    if samples is True:
        return np.empty(shape, dtype=np.float32)
    path = Path(samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    mode: Literal["w+", "r+"] = "w+"
    if not fresh or not here.first:
        here.wait()
        mode = "r+"
    try:
        store = np.lib.format.open_memmap(path, mode=mode, dtype=np.float32, shape=shape)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is not the sample file of this collection ({error}): remove its checkpoint"
        ) from error
    if mode == "w+":
        here.wait()
    if store.shape != shape:
        raise InputError(f"{path} is not the sample file of this collection: remove its checkpoint")
    return store


def _flush(store: np.ndarray | None) -> None:
    if isinstance(store, np.memmap):
        store.flush()
