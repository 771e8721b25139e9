"""Selection on all sources but one: effects pooled as a random effect, doses matched on the mean gain."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neva_tl import models
from neva_tl.activations import ActivationStats, Samples
from neva_tl.core.messages import say
from neva_tl.core.method_records import find_method
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Edit
from neva_tl.editing.calibrate import DosePoint
from neva_tl.methods import Evidence
from neva_tl.selection import select
from neva_tl.study.analyses.transfer.config import TransferConfig
from neva_tl.study.analyses.transfer.selected import Selected, Source
from neva_tl.study.run.cell_runner import CellRunner
from neva_tl.study.run.run_folder import RunFolder


@dataclass(eq=False)
class JointCells(CellRunner):
    """Cells of a selection on several sources: its dose points are means over the validation items of these sources.

    Attributes:
        runners: Cells of each source.
    """

    runners: tuple[CellRunner, ...] = field(default=())

    @cached_property
    def base_invalid(self) -> float:
        """Invalid rate of the unedited model, whose open prompts all sources share."""
        return self.runners[0].base_invalid

    def dose_points(
        self, requests: Sequence[tuple[str, Edit]], rates: Sequence[dict[float, float]] | None = None
    ) -> list[DosePoint]:
        """Measure the mean gain over the sources that cover the value, each in its own unit, and the invalid rate.

        Args:
            requests: Steered value, and edit at its dose.
            rates: See `CellRunner.dose_points`.
        """
        points = []
        before = [{} for _ in requests] if rates is None else rates
        for (value, edit), rate in zip(requests, before, strict=True):
            gains = []
            for runner in self.runners:
                if value in runner.scorer.values:
                    observed = runner.scorer.observe((edit,), "validation", (value,))
                    gains.append(observed.csr(value) - runner.base_validation.csr(value))
            gain = float(np.mean(gains))
            points.append(DosePoint(gain, self._invalid(edit, observed, gain, rate), {}))
        return points


def leave_out(
    sources: Sequence[Source], values: Sequence[str], root: Path, config: TransferConfig, progress: bool
) -> list[tuple[Source, Selected]]:
    """Select on all sources but one, for each source.

    Args:
        sources: The sources.
        values: Steered values.
        root: Folder of the study.
        config: Settings.
        progress: Print a line for each selection on stderr.

    Returns:
        The source left out, and the selection on the others, with doses. A source is missing where none of its values is
        covered by two others, or has a neuron on which all of them agree.

    Raises:
        InputError: A folder belongs to another study.
    """
    selections = []
    config = replace(config, methods=pooled_methods(config))
    for source in sources:
        # by name, so that the folder does not depend on the order of the sources
        others = sorted((other for other in sources if other is not source), key=lambda other: other.name)
        covered = [
            value for value in values
            if value in source.measured and sum(value in other.selected.values for other in others) > 1
        ]  # fmt: skip
        if not covered:
            continue
        say(f"selecting on all sources but {source.name}", progress)
        selected = _selected(f"leave {source.name} out", others, covered, root)
        usable = [value for value in covered if len(selected.neurons[value])]
        if usable:
            selected.set_doses(usable, config)
            selections.append((source, selected))
    return selections


def pooled_methods(config: TransferConfig) -> tuple[str, ...]:
    """Return the methods of rows `leave B out`: all but placebos, which repeat the selection on one source.

    Args:
        config: Settings.
    """
    return tuple(method for method in config.methods if find_method(method).family != "placebo")


def _selected(name: str, others: Sequence[Source], values: Sequence[str], root: Path) -> Selected:
    """Select on several sources at once, or read the neurons from the folder."""
    first = others[0]
    folder = f"pooled-{'+'.join(other.name for other in others)}"
    store = _store(root / folder, others)
    stats = {value: {other.name: other.stats for other in others if value in other.selected.values} for value in values}
    neurons = {value: _neurons(store, stats[value], value, first) for value in values}
    model = first.selected.cells.model
    chat = first.study.chat is not False and models.info(model).chat

    @cache
    def pooled(names: tuple[str, ...]) -> Evidence:
        of_these = [other.stats for other in others if other.name in names]
        return Evidence(
            model, pool_stats(of_these, names), neurons, first.study.token_scope(), chat=chat, seed=first.study.seed
        )

    runners = tuple(other.selected.cells for other in others)
    cells = JointCells(store, model, runners[0].scorer, first.study, runners[0].profile, runners=runners)
    systems = frozenset(system for other in others for system in other.selected.systems)
    return Selected(
        name, folder, tuple(other.name for other in others), systems, cells, neurons, lambda v: pooled(tuple(stats[v]))
    )


def _store(folder: Path, others: Sequence[Source]) -> RunFolder:
    """Open the folder of a selection on several sources, which belongs to the studies of these sources."""
    studies = {other.name: other.about["study"] for other in others}
    first: dict[str, Any] = dict(others[0].about)
    about = first | {
        "study": hashlib.sha256(repr(sorted(studies.items())).encode()).hexdigest()[:16],
        "sources": studies,
        "prompt_hash": hashlib.sha256("".join(str(o.about["prompt_hash"]) for o in others).encode()).hexdigest(),
    }
    store = RunFolder.open(folder, about)
    if not store.has("manifest.json"):
        store.write_json("manifest.json", about)
    return store


def _neurons(store: RunFolder, stats: dict[str, ActivationStats], value: str, first: Source) -> NeuronSet:
    """Select one value's neurons by the pooled effect, or read them from the folder."""
    file = f"neurons/{value}"
    if not store.has(f"{file}.json"):
        require_q = bool(first.study.selection.get("require_q", True))
        with warnings.catch_warnings():
            # a value without neurons has no row, and the table says how many values a row has
            warnings.filterwarnings("ignore", message=".*on all sources")
            neurons = select(stats, value, method="pooled", k=first.study.k, require_q=require_q)
        neurons.save(store.path(file))
    return NeuronSet.load(store.root / file)


def pool_stats(sources: Sequence[ActivationStats], names: Sequence[str]) -> ActivationStats:
    """Merge the statistics of several sources, from which methods build one edit.

    Args:
        sources: Statistics of each source.
        names: Their names, which keep clusters and pairs of different sources apart.

    Returns:
        Statistics of the values that all sources cover. Residual means, hence vectors, have equal weights over the sources
        whatever their numbers of texts; moments and samples are those of all texts together.

    Raises:
        InputError: The sources differ in model, pooling or chat settings.
    """
    first, *rest = sources
    values = tuple(value for value in first.values if all(value in other.values for other in rest))
    parts = [_of_values(stats, values) for stats in sources]
    merged = parts[0]
    for other in parts[1:]:
        merged = merged.merge(other)
    resid = np.asarray(np.mean([stats.resid for stats in parts], axis=0, dtype=np.float64), dtype=np.float32)
    samples = [stats.samples for stats in parts if stats.samples is not None]
    if len(samples) < len(parts):
        return replace(merged, resid=resid)
    tables = [
        s.table.assign(
            cluster=name + ": " + s.table["cluster"].astype(str),
            pair_id=(name + ": " + s.table["pair_id"].astype("string"))
            .astype(object)
            .where(s.table["pair_id"].notna(), None),
        )
        for s, name in zip(samples, names, strict=True)
    ]
    h = np.concatenate([s.h for s in samples])
    return replace(merged, resid=resid, samples=Samples(h, pd.concat(tables, ignore_index=True)))


def _of_values(stats: ActivationStats, values: Sequence[str]) -> ActivationStats:
    """Statistics of some of the values."""
    if tuple(values) == stats.values:
        return stats
    rows = [stats.values.index(value) for value in values]
    arrays: dict[str, Any] = {name: array[rows] for name, array in stats._arrays().items()}
    samples = stats.samples
    if samples is not None:
        keep = samples.table["value"].isin(values).to_numpy()
        samples = Samples(samples.h[keep], samples.table[keep].reset_index(drop=True))
    return replace(stats, values=tuple(values), samples=samples, **arrays)
