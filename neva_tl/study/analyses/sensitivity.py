"""Sensitivity of a finished run: one factor at a time is varied.

Every level has its own dose. Neurons come from training prompts, doses from validation prompts (the run's own search, at
one target gain), and the reported figures from test prompts. The run's own setting is not measured again: its cells are the
run's, so the row `as run` equals the headline. Its doses were searched for all of the run's targets, those of the levels for
one target only. Each level has its cells in `cells/sensitivity/FACTOR=LEVEL`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.activations import ActivationStats, collect
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Edit
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.evaluation.measures.result import compare_nlr, measure
from neva_tl.methods import Evidence, build, gate_name
from neva_tl.models import Model
from neva_tl.study.analyses.reopened_run import Run
from neva_tl.study.analyses.variants import FACTORS, Setting, Variant, neurons_of, variants
from neva_tl.study.run import stages, summary
from neva_tl.study.run.cell_runner import CellRunner, grid_of
from neva_tl.study.run.comparison import responses_of

#: Methods whose neurons are varied, the main one first.
METHODS = ("neva", "neva_shift")
#: Number of values where none are named.
MOST_STEERED = 3
#: Name of a value that means every value of the run.
ALL = "all"
#: Status of a level without neurons for a value.
EMPTY = "no neurons"


@dataclass(frozen=True)
class SensitivityConfig:
    """Settings of a sensitivity study.

    Attributes:
        values: Values of the run, or `all`; empty takes three, spread along the circle.
        factors: Names in `FACTORS`; empty takes all.
        methods: Methods among `METHODS`; empty takes those that the run has.
        target: One of the run's gains; None takes the smallest.
    """

    values: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    target: float | None = None

    def of_run(self, run: Run) -> SensitivityConfig:
        """Return the same settings with every default decided.

        Args:
            run: The finished run.

        Raises:
            InputError: The run has no such value, method or target, or a factor is unknown.
        """
        target = run.target(run.config.spending().targets[0] if self.target is None else self.target)
        have = [name for name in METHODS if name in run.methods()]
        named = run.values() if self.values == (ALL,) else self.values
        for what, requested, available in (
            ("factor", self.factors, tuple(FACTORS)),
            ("value", named, run.values()),
            ("method", self.methods, tuple(have)),
        ):
            missing = [name for name in requested if name not in available]
            if missing:
                raise InputError(
                    f"no {what} {missing[0]!r} to vary in {run.store.root}: choose from {', '.join(available)}"
                )
        if not have:
            raise InputError(f"{run.store.root} measured neither {' nor '.join(METHODS)}: there is nothing to vary")
        values = named or spread_values(run.values())
        return SensitivityConfig(values, self.factors or tuple(FACTORS), self.methods or tuple(have), target)


def spread_values(values: Sequence[str], most: int = MOST_STEERED) -> tuple[str, ...]:
    """Select values, evenly spread.

    Args:
        values: Values in circle order.
        most: Largest number of values.
    """
    return tuple(values[:: max(1, len(values) // most)][:most])


@dataclass(eq=False)
class Lab:
    """A reopened run with its evidence, and its cells at one target gain.

    Attributes:
        run: The run.
        model: Its loaded model.
        config: Decided settings (see `SensitivityConfig.of_run`).
        evidence: The run's own evidence.
        cells: Measures into the run folder.
    """

    run: Run
    model: Model
    config: SensitivityConfig
    evidence: Evidence
    cells: CellRunner
    _stats: dict[int, ActivationStats] = field(default_factory=dict)

    @classmethod
    def open(cls, run: Run, model: Model, config: SensitivityConfig | None = None) -> Lab:
        """Set up the evidence and the cells of a run.

        Args:
            run: The finished run.
            model: Its loaded model.
            config: Settings; None takes the defaults.

        Raises:
            InputError: See `SensitivityConfig.of_run`, `Run.evidence` and `Run.pairs`.
        """
        decided = (config or SensitivityConfig()).of_run(run)
        evidence = run.evidence(model)
        return cls(run, model, decided, evidence, run.cells(model, targets=(decided.target,)))

    @property
    def setting(self) -> Setting:
        """The run's own setting, which the levels vary."""
        run_neurons = {value: self.evidence.neurons[value] for value in self.config.values}
        return Setting(self.run.config, run_neurons, self.evidence.stats)

    def stats(self, pairs: int | None) -> ActivationStats:
        """Return the statistics of a number of training pairs.

        Args:
            pairs: Pairs of every value, by hash rank; None takes the run's own statistics. Others are collected again, and
                cached for one number.
        """
        if pairs is None:
            return self.evidence.stats
        if pairs not in self._stats:
            study = self.run.config
            fewer = stages.limit_rows(self.run.pairs(), pairs)
            statistics = collect(self.model, fewer, pooling=study.pooling, samples=True, chat=study.chat, gate=False)
            self._stats = {pairs: statistics}
        return self._stats[pairs]

    def neurons(self, variant: Variant, value: str) -> NeuronSet:
        """Return the neurons of a level.

        Args:
            variant: The level.
            value: The value.
        """
        run_neurons = self.evidence.neurons[value]
        margins = self.evidence.margins if variant.pairs is None else None
        return neurons_of(variant, run_neurons, self.run.config, self.stats(variant.pairs), self.model, margins)

    def edit(self, method: str, variant: Variant, value: str) -> Edit | None:
        """Return the edit of a level at dose 1; None where it has no neurons.

        Args:
            method: Registered name.
            variant: The level.
            value: The steered value.
        """
        neurons = self.neurons(variant, value)
        if not len(neurons):
            return None
        gate = self.evidence.gate if variant.gated else None
        evidence = replace(self.evidence, stats=self.stats(variant.pairs), neurons={value: neurons}, gate=gate)
        return build(method, evidence, value)

    def cell(self, method: str, variant: Variant, value: str) -> str:
        """Return the name of a level's cell.

        Args:
            method: Registered name.
            variant: The level; one that changes nothing has the run's own cell.
            value: The steered value.
        """
        same = variant.own or (variant.k is not None and variant.k >= len(self.evidence.neurons[value]))
        folder = "cells" if same else f"cells/sensitivity/{variant.name}"
        return f"{folder}/measure/{method}/{value}@{self.config.target}"

    def measure(self, method: str, todo: Sequence[tuple[Variant, str]]) -> None:
        """Measure the unfinished doses and test conditions of some levels together.

        Args:
            method: Registered name.
            todo: Levels with the values that are steered towards.
        """
        store = self.cells.store
        remaining = [(v, value) for v, value in todo if not store.has(f"{self.cell(method, v, value)}.json")]
        edits: dict[str, tuple[Variant, str, Edit]] = {}
        for variant, value in remaining:
            edit, name = self.edit(method, variant, value), self.cell(method, variant, value)
            if edit is None:
                store.write_json(f"{name}.json", {"dose": None, "status": EMPTY, "n_neurons": 0})
            else:
                edits[name] = (variant, value, edit)
        doses = {name: name.replace("/measure/", "/dose/") + ".json" for name in edits}
        searched = {
            doses[name]: (value, edit)
            for name, (variant, value, edit) in edits.items()
            if variant.dose is None and not store.has(doses[name])
        }
        self.cells.search(searched, grid_of(method))
        cells = []
        for name, (variant, _, edit) in edits.items():
            dose, status = variant.dose, "fixed"
            if dose is None:
                record = store.read_json(doses[name])
                dose = record["doses"][str(self.config.target)]
                status = "unreached" if dose is None else "reached"
                # a target out of reach is measured at the admissible dose that gained most, with status `unreached`
                dose = record["best"] if dose is None else dose
            edit = edit.with_dose(0.0 if dose is None else dose)
            about = {"dose": dose, "status": status, "n_neurons": len(edit.neurons)}  # type: ignore[attr-defined]
            cells.append((name, (edit,), about))
        self.cells.measure(cells)


def measure_all(lab: Lab, *, progress: bool = False) -> list[tuple[str, Variant]]:
    """Measure every level of every factor and method.

    Args:
        lab: The run.
        progress: Show a bar of levels on stderr.

    Returns:
        The measured levels with their methods, in order.
    """
    # on the demo's tiny model many conditions share batches; on others each cell is stored as soon as it is measured
    step = None if lab.run.config.judge == "exact" else 1
    plan = [
        (method, variants(factor, lab.setting, method))
        for factor in lab.config.factors
        for method in lab.config.methods
    ]
    rows = []
    with progress_bar(total=len(plan), desc="sensitivity", unit="factor", progress=progress) as bar:
        for method, levels in plan:
            bar.set_postfix_str(f"{levels[0].factor} of {method}" if levels else "")
            # one number of pairs at a time, because statistics are cached for one number
            for block in [[v] for v in levels] if levels and levels[0].factor == "pairs" else [levels]:
                cells = [(variant, value) for variant in block for value in lab.config.values]
                size = len(cells) if step is None else step
                for start in range(0, len(cells), max(size, 1)):
                    lab.measure(method, cells[start : start + size])
            rows += [(method, variant) for variant in levels]
            bar.update()
    return rows


@dataclass(frozen=True, eq=False)
class Level:
    """A measured level of one method.

    Attributes:
        method: Registered name.
        variant: The level.
        entry: Its entry in the shape of results.json; None without neurons.
        responses: Its item scores; None without neurons.
        neurons: Value -> number of neurons.
    """

    method: str
    variant: Variant
    entry: Mapping[str, Any] | None
    responses: Responses | None
    neurons: Mapping[str, int]


def read_level(lab: Lab, method: str, variant: Variant) -> Level:
    """Read a level from its cells.

    Args:
        lab: The run.
        method: Registered name.
        variant: The level.
    """
    store, about = lab.cells.store, lab.cells.scorer.about()
    names = {value: lab.cell(method, variant, value) for value in lab.config.values}
    records = {value: store.read_json(f"{name}.json") for value, name in names.items()}
    size = {value: r.get("n_neurons", len(lab.evidence.neurons[value])) for value, r in records.items()}
    measured = {value: name for value, name in names.items() if records[value]["status"] != EMPTY}
    if not measured:
        return Level(method, variant, None, None, size)
    responses = responses_of(store, method, measured, **about)
    assert responses is not None
    n_boot = lab.cells.profile.n_boot
    result = measure(responses, seed=lab.run.config.seed, n_boot=n_boot, n_permutations=1)
    gate = gate_name(method, lab.run.config.gate == "relevance" and variant.gated)
    target = None if variant.dose is not None else lab.config.target
    of_value = {value: records[value] for value in measured}
    entry = summary.method_entry(gate, target, result, of_value, lab.cells.base)
    entry.pop("circle")  # a few values do not describe the circle
    return Level(method, variant, entry, responses, size)


def level_row(level: Level, reference: Level, seed: int, n_boot: int) -> dict[str, Any]:
    """Return a row of table `sensitivity`.

    Args:
        level: The level.
        reference: The run's own setting.
        seed: Seed of the bootstraps.
        n_boot: Bootstrap draws.

    Returns:
        The level, its measurements, and its NLR less the run's own NLR on the same draws.
    """
    variant = level.variant
    row: dict[str, Any] = {"factor": variant.factor, "level": variant.level, "size": variant.size, "own": variant.own}
    row |= {"method": level.method, "neurons": float(np.mean(list(level.neurons.values())))}
    row["values"] = f"{sum(n > 0 for n in level.neurons.values())}/{len(level.neurons)}"
    if level.entry is None:
        return row
    row |= summary.method_row(level.entry, level.method)
    if variant.dose is not None:
        row |= {"reached": "fixed", "dose": variant.dose}
    elif not variant.own and level.responses is not None and reference.responses is not None:
        comparison = compare_nlr(level.responses, reference.responses, seed=seed, n_boot=n_boot).difference
        row |= comparison.columns("nlr_less_own")
    return row


def sensitivity(
    run: Run, model: Model, config: SensitivityConfig | None = None, *, progress: bool = False
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Vary one factor at a time around the run's own setting.

    Cells are stored in the run folder, and a killed call resumes.

    Args:
        run: The finished run.
        model: Its loaded model.
        config: Factors, values and methods.
        progress: Show a bar on stderr.

    Returns:
        Tables `sensitivity` (a row per level and method over the values that have neurons: factor, level, size, own, method,
        neurons (mean), values, and the columns of the run's table `methods`, with the NLR's difference to the run's own NLR) and
        `sensitivity_values` (a row per value: the columns of `values`); and the numbers with intervals as plain data.

    Raises:
        InputError: The run lacks a requested method or value, or a file.
    """
    lab = Lab.open(run, model, config)
    _ = lab.cells.base
    seed, n_boot = run.config.seed, lab.cells.profile.n_boot
    rows, by_value, numbers = [], [], []
    references: dict[str, Level] = {}
    for method, variant in measure_all(lab, progress=progress):
        level = read_level(lab, method, variant)
        if variant.own:
            references[method] = level
        rows.append(level_row(level, references[method], seed, n_boot))
        head = {"factor": variant.factor, "level": variant.level, "size": variant.size, "own": variant.own}
        if level.entry is not None:
            numbers.append({**head, "method": method, "neurons": dict(level.neurons), **level.entry})
            for row in summary.values_rows(level.entry, method):
                by_value.append({**head, **row, "neurons": level.neurons[row["steered"]]})
    facts = {"values": list(lab.config.values), "factors": list(lab.config.factors), "target_gain": lab.config.target}
    about = {**facts, **lab.cells.scorer.about(), "seed": seed, "n_boot": n_boot, "study": run.manifest["study"]}
    tables = {"sensitivity": pd.DataFrame(rows), "sensitivity_values": pd.DataFrame(by_value)}
    return tables, {**about, "levels": numbers}
