"""Collect MLP activations on contrastive prompts as streaming, mergeable statistics.

No activation cache is kept: every prompt is pooled over its answer tokens on the device, and the pooled vectors update
count, mean and M2 (sum of squared deviations) per (value, pole, fold, layer, neuron) by Chan, Golub and LeVeque's
pairwise rule. Folds are hashes of the prompt's cluster, so that the two halves of a split-half check share no frame.
"""

from __future__ import annotations

import weakref
from collections.abc import Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int

from neva_tl import models
from neva_tl.activations.accumulate import POLES, Accumulator, CellIndex, fold_of
from neva_tl.activations.batch_runner import BatchRunner
from neva_tl.activations.plan import Texts, most_rows, packed, token_budget_for, tokenised
from neva_tl.activations.pooling import Pooling, Recorder, decided_pooling
from neva_tl.activations.prefixes import Prefixes
from neva_tl.activations.ranks import World, all_reduced, current_world
from neva_tl.activations.sample_file import flush, open_samples
from neva_tl.activations.state import Checkpoint, plan_hash
from neva_tl.activations.stats import ActivationStats, Samples, finish
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
from neva_tl.models import Model
from neva_tl.models.inference.encoding import encoding_record
from neva_tl.prompts import ContrastSet
from neva_tl.prompts import load as load_prompts
from neva_tl.prompts.contrast import each_example


@check_arguments
def collect(
    model: Model,
    pairs: ContrastSet | pd.DataFrame | str | Path,
    *,
    pooling: Pooling | Literal["auto"] = "auto",
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

    Each text is tokenised with BOS by the model's own convention and run once without the LM head. `hook_post` is pooled
    over the answer tokens (all tokens but BOS if no answer is marked); padding never counts. Texts of similar length
    share a batch; a batch that does not fit in memory is halved until it does.

    Under `torch.distributed` the ranks share the batches, and every rank returns the full result.

    Args:
        model: A TransformerLens model (`neva_tl.load`).
        pairs: Contrastive prompts, or what `prompts.load` reads.
        pooling: Reduction over the answer tokens: their `mean`, the `last`, or the maximum of each neuron (`max`; the
            residual stream then takes the mean). `token` counts every answer token as an observation, without pairs. `auto`
            is `last` on demo models, whose contrasts end where a value is about to be named, and `mean` on all others.
        gate: Also collect `act(gate)` alone on gated models (NPTI's site).
        samples: Keep the pooled activations of every prompt: True in memory, a path as a memory-mapped `.npy` (4 bytes for
            each prompt and neuron: 0.18 MB a prompt on SmolLM2). Probes and `fit_context` need them; `select` does not.
        split: Split to use (selection must see `train` only); None takes all rows.
        chat: Force or forbid the chat template; None uses it where the tokenizer has one.
        stop_at_layer: Collect and run only the layers below this one.
        token_budget: Tokens of a batch, padding included; the default depends on the device (`plan.token_budget_for`).
        share_prefixes: Run the prompt prefixes of a batch once and reuse their keys and values. Default: if that saves at
            least a fifth of the tokens (never with `stop_at_layer`).
        checkpoint: Path prefix of the files that hold the state of the collection. They are written every few seconds,
            resumed from, and removed at the end. A resumed collection gives the same result, bit for bit.
        save_every: Seconds between two checkpoints (longer if writing takes long; 0: after every batch).
        progress: Show a progress bar on stderr.

    Returns:
        The statistics, on the CPU. They keep the texts and a weak reference to the model, which `select` may read.

    Raises:
        InputError: A value lacks a pole in this split, a text exceeds the context, the model is a mixture of experts, an
            activation is not finite (the message names layer and prompt), the pooling is unknown, samples of single
            tokens are requested, the model lacks the layer to stop at, or a checkpoint belongs to another collection.
        WorkError: A single text does not fit in memory, or another rank was lost.

    Example:
        >>> import neva_tl as nv
        >>> model = nv.load("demo")
        >>> stats = nv.collect(model, nv.prompts.load("demo", per_value=8))
        >>> stats.n_layers, stats.d_mlp
        (4, 384)
    """
    info = models.info(model)
    pooling = decided_pooling(pooling, info.demo)
    pairs = load_prompts(pairs)
    world = current_world()
    layers = info.n_layers if stop_at_layer is None else stop_at_layer
    if pooling == "token" and samples is not False:
        raise InputError("pooling 'token' keeps no samples: a sample is one vector per text (use mean, last or max)")
    if samples is True and not (world.alone and checkpoint is None):
        raise InputError("samples of several processes, or with a checkpoint, need a file: samples='PATH.npy'")
    if not 1 <= layers <= info.n_layers:
        raise InputError(f"stop_at_layer = {layers} is not possible: {info.name} has {info.n_layers} layers")
    if share_prefixes and layers < info.n_layers:
        raise InputError("share_prefixes needs all layers, and stop_at_layer runs only some: leave out one of the two")
    models.check_mlp(model)
    subset = pairs if split is None else pairs.split(split)
    plan = _Plan.of(model, subset, pooling=pooling, split=split, chat=chat, token_budget=token_budget)
    gate = gate and info.gated
    devices = models.layer_devices(model)[:layers]
    accumulator = Accumulator.empty(plan.values, devices, info.d_mlp, info.d_model, gated=gate)
    fingerprint = models.fingerprint(model)
    state, finished = None, set[int]()
    if checkpoint is not None:
        settings = {
            "model": fingerprint,
            "prompts": subset.hash,
            "pooling": pooling,
            "gate": gate,
            "layers": layers,
            "split": split,
            "batches": plan_hash(plan.batches),
            "tokens": plan.texts.hash,
        }
        state = Checkpoint(Path(checkpoint), settings, world, save_every)
        finished = state.restore(accumulator)
    store = open_samples(samples, (len(plan.table), layers, info.d_mlp), world, fresh=not finished)
    runner = BatchRunner(
        model=model,
        texts=plan.texts,
        table=plan.table,
        cells=CellIndex.of(plan.table, plan.values),
        recorder=Recorder(model, gate=gate, pooling=pooling, layers=layers),
        prefixes=Prefixes.of(model, plan.texts, plan.batches, share_prefixes) if layers == info.n_layers else None,
        units=plan.units,
        by_token=pooling == "token",
        limit=None if state is None else state.limit,
    )
    _run_batches(runner, plan.batches, accumulator, store, world, state, finished, progress=progress)
    all_reduced(accumulator, world)
    flush(store)
    world.wait()
    if state is not None:
        state.remove()
    return finish(
        accumulator,
        info=asdict(info),
        fingerprint=fingerprint,
        prompt_hash=subset.hash,
        pooling=pooling,
        samples=None if store is None else Samples(store, plan.table),
        texts=plan.table,
        model_reference=weakref.ref(model),
        tokens_hash=plan.texts.hash,
        encoding=encoding_record(model, chat),
        prompts_note=pairs.note,
        theory=subset.theory,
    )


@dataclass(frozen=True)
class _Plan:
    """Rows of a contrast set, their token ids, and the batches they run in.

    Attributes:
        table: Rows with their fold.
        texts: Token ids of the rows.
        units: `[n]` unit of each row: the rows of a pair share one, other rows have their own.
        batches: Row numbers of each batch.
        values: Values that occur, in the order of their theory.
    """

    table: pd.DataFrame
    texts: Texts
    units: Int[np.ndarray, " n"]
    batches: list[np.ndarray]
    values: tuple[str, ...]

    @classmethod
    def of(
        cls,
        model: Model,
        subset: ContrastSet,
        *,
        pooling: Pooling,
        split: str | None,
        chat: bool | None,
        token_budget: int | None,
    ) -> _Plan:
        info = models.info(model)
        table = subset.df.assign(fold=[fold_of(cluster) for cluster in subset.df["cluster"]])
        _check_poles(table, split)
        texts = tokenised(model, each_example(table), chat)
        budget = token_budget or token_budget_for(torch.device(info.device).type, info.d_mlp)
        # pooling over single tokens uses no pairs, so every text may run alone
        units = np.arange(len(table)) if pooling == "token" else _units(table)
        batches = packed(texts.lengths, units, budget, most_rows(budget))
        return cls(table, texts, units, batches, subset.values)


def _run_batches(
    runner: BatchRunner,
    batches: list[np.ndarray],
    accumulator: Accumulator,
    store: np.ndarray | None,
    world: World,
    state: Checkpoint | None,
    finished: Set[int],
    *,
    progress: bool,
) -> None:
    """Run the batches of this rank that no earlier call finished, and save the state in between."""
    numbers = [number for number in range(len(batches)) if world.owns(number)]
    bar = progress_bar(
        progress=progress and world.first,
        leaf=True,
        total=sum(len(batches[number]) for number in numbers),
        initial=sum(len(batches[number]) for number in numbers if number in finished),
        desc="collect",
        unit="prompt",
    )
    with bar, runner.recorder.on():
        for number in numbers:
            if number in finished:
                continue
            runner.batch(batches[number], accumulator, store)
            bar.update(len(batches[number]))
            if state is not None:
                state.finished.append(number)
                state.count_rows(store, batches[number])
                state.limit = runner.limit
                if state.due():
                    flush(store)
                    state.save(accumulator)
    if state is not None and not world.alone:
        # another rank may be lost during the reduction: the batches of this rank stay on disk
        flush(store)
        state.save(accumulator)


def _check_poles(table: pd.DataFrame, split: str | None) -> None:
    where = f" in split {split!r}" if split else ""
    if not len(table):
        raise InputError(f"the contrast set has no rows{where}")
    for name, group in table.groupby("value"):
        for pole in POLES:
            if (group["pole"] == pole).sum() < 2:
                raise InputError(f"{name} has fewer than two {pole!r} texts{where}: both poles are needed")


def _units(table: pd.DataFrame) -> np.ndarray:
    """Return the unit of each row: its pair, or the row itself if it has no pair."""
    value, pair = (pd.factorize(table[name])[0] for name in ("value", "pair_id"))
    single = -1 - np.arange(len(table))
    return pd.factorize(np.where(pair < 0, single, value * (pair.max(initial=0) + 1) + pair))[0]
