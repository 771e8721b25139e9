"""Edits of a finished run, rebuilt from its folder at the run's doses.

Nothing is collected, and the folder is only read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.method_records import find_method
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import ValueTheory, recorded_theory
from neva_tl.editing import Edit, RelevanceGate
from neva_tl.editing.saved import save_edit
from neva_tl.methods import Evidence, build
from neva_tl.models.sources import label
from neva_tl.prompts import ContrastSet
from neva_tl.study.analyses.edit_measures import edit_measures
from neva_tl.study.run import stages
from neva_tl.study.run.cell_runner import CellRunner
from neva_tl.study.run.changed_files import note_unchecked
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.optional import was_left_out
from neva_tl.study.run.origin import run_model, run_prompts
from neva_tl.study.run.preflight import read_manifest
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.study import StudyResult


@dataclass(frozen=True)
class RunEdit:
    """An edit of a run.

    Attributes:
        method: Registered name.
        value: Steered value.
        dose: Dose in the method's unit; None where it has none.
        status: `reached`, `unreached` (the admissible dose that gained most), `own gain`, or `dose of METHOD` for a placebo.
        target: Matched gain; None where the method has no dose.
        edit: The edit at that dose.
    """

    method: str
    value: str
    dose: float | None
    status: str
    target: float | None
    edit: Edit


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, opened for reading.

    Attributes:
        store: The run folder.
        config: The study's settings; without the gate where the run left it out.
        manifest: Content of manifest.json.

    Example:
        >>> reopened = nv.Run.open(run)
        >>> reopened.methods(), reopened.values()
        (('neva_shift', 'caa'), ('power', 'benevolence'))
        >>> len(reopened.neurons("power"))
        60
    """

    store: RunFolder
    config: StudyConfig
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Read a folder's manifest.

        Args:
            folder: Run folder.

        Raises:
            InputError: The folder is not a run folder, its manifest was changed, or the run is not finished.
        """
        store = RunFolder(Path(folder))
        manifest = read_manifest(folder, measured=True)
        note_unchecked(store.root)
        if not store.has("results.json") or not store.has("tables/values.parquet"):
            raise InputError(f"{folder} is not finished: run the same neva-tl run again to resume it")
        config = StudyConfig.from_manifest(manifest["config"])
        if was_left_out(store, stages.GATE):
            config = replace(config, gate="none")
        return cls(store, config, manifest)

    def load_model(self, model: str | None = None) -> Any:
        """Load the run's model.

        Args:
            model: Another name for it, which must have the same weights.

        Raises:
            InputError: The weights differ, or a model of a local path has to be named again.
        """
        return run_model(self.store, self.config, self.manifest, model)

    def table(self, name: str) -> pd.DataFrame:
        """Read a tidy table of the run; its `.show()` draws the figure that belongs to it, where there is one.

        Args:
            name: `methods`, `leakage`, `values`, `dose`, `neurons`, `layers`, ... (the files of `RUN/tables`).

        Raises:
            InputError: The run has no such table.

        Example:
            >>> nv.Run.open(run).table("methods")["method"].tolist()
            ['neva_shift', 'caa']
        """
        tables = sorted(file.stem for file in (self.store.root / "tables").glob("*.parquet"))
        if name not in tables:
            raise InputError(f"{self.store.root} has no table {name!r}: it has {', '.join(tables)}")
        return StudyResult(self.store.root).table(name)

    def neurons(self, value: str) -> NeuronSet:
        """Read the selected neurons of a value.

        Args:
            value: A steered value.

        Raises:
            InputError: The run did not steer towards it.
        """
        if value not in self.values():
            raise InputError(f"{self.store.root} has no neurons for {value!r}: it has {', '.join(self.values())}")
        return NeuronSet.load(self.store.root / "neurons" / value)

    def __repr__(self) -> str:
        model = self.manifest["model"].get("name", self.config.model)
        return f"Run({self.store.root}: {model}, {len(self.values())} values, {', '.join(self.methods())})"

    def _repr_html_(self) -> str:
        return StudyResult(self.store.root)._repr_html_()

    def methods(self) -> tuple[str, ...]:
        """Return the measured methods."""
        return tuple(self.store.read_table("tables/values")["method"].unique())

    def theory(self) -> ValueTheory:
        """Return the theory of the run's values."""
        return recorded_theory(self.manifest, self.values())

    def values(self) -> tuple[str, ...]:
        """Return the steered values."""
        return tuple(self.store.read_table("tables/values")["steered"].unique())

    def target(self, gain: float | None = None) -> float:
        """Check a matched gain.

        Args:
            gain: The gain; None takes the headline (the last one).

        Raises:
            InputError: The run did not match this gain.
        """
        targets = self.config.spending().targets
        target_gain = targets[-1] if gain is None else gain
        if target_gain not in targets:
            raise InputError(f"{self.store.root} matched gains at {', '.join(map(str, targets))}, not at {target_gain}")
        return target_gain

    def edits(
        self, model: models.Model, methods: Sequence[str], values: Sequence[str] = (), target: float | None = None
    ) -> list[RunEdit]:
        """Rebuild edits at the run's own matched doses.

        Args:
            model: Loaded model with the run's weights.
            methods: Methods of the run.
            values: Values of the run; empty takes all.
            target: Matched gain; None takes the run's headline (the last one).

        Raises:
            InputError: The run lacks a method, value, target or file.

        Example:
            >>> for item in nv.Run.open(run).edits(model, ["neva_shift"], ["power"]):
            ...     print(item.method, item.value)
            neva_shift power
        """
        target = self.target(target)
        requested_values = tuple(values) or self.values()
        for what, requested, available in (
            ("method", methods, self.methods()),
            ("value", requested_values, self.values()),
        ):
            missing = [name for name in requested if name not in available]
            if missing:
                raise InputError(f"{self.store.root} measured no {what} {missing[0]!r}: it has {', '.join(available)}")
        evidence = self.evidence(model)
        return [self._edit(evidence, method, value, target) for method in methods for value in requested_values]

    def save_edit(
        self,
        value: str,
        method: str,
        folder: str | Path,
        *,
        target: float | None = None,
        model: models.Model | None = None,
    ) -> Path:
        """Write an edit of the run to a folder, with a card of what the run measured.

        Args:
            value: A value of the run.
            method: A method of the run.
            folder: The folder; created when missing.
            target: Matched gain; None takes the run's headline (the last one).
            model: Loaded model with the run's weights; None loads it.

        Returns:
            The folder, which `nv.load_edit` reads.

        Raises:
            InputError: The run lacks the method, value, target or a file, or its model cannot be found.

        Example:
            >>> folder = nv.Run.open(run).save_edit("power", "neva_shift", "power", model=model)
            >>> nv.load_edit(folder, model=model).about["method"]
            'neva_shift'
        """
        loaded = self.load_model() if model is None else model
        (item,) = self.edits(loaded, [method], [value], target)
        measures = edit_measures(self.store, method, value, item.target, self.config.spending().targets[0])
        origin = {
            "prompt_hash": self.manifest["prompt_hash"],
            "prompts": label(self.config.prompts),
            "seed": self.config.seed,
            "theory": self.theory().name,
            "pooling": self.config.pooling,
            "selection": {
                "selector": self.config.selector,
                "k": self.config.k,
                "selection": dict(self.config.selection),
            },
        }
        about = {"value": value, "method": method, "measures": measures}
        return save_edit(item.edit, folder, model=loaded, name=self.config.model, about=about, origin=origin)

    def evidence(self, model: models.Model) -> Evidence:
        """Read the evidence for the run's edits from its folder.

        Args:
            model: Loaded model with the run's weights.

        Raises:
            InputError: A file is missing.
        """
        steered = self.values()
        files = ["stats/stats.json", "stats/samples.npy", "stats/samples_table.parquet", "cells/vector_layers.json"]
        files += [f"neurons/{value}.json" for value in steered]
        gated = self.config.gate == "relevance"
        missing = [name for name in [*files, *(["gate.safetensors"] if gated else [])] if not self.store.has(name)]
        if missing:
            raise InputError(f"{self.store.root} lacks {missing[0]}: its edits cannot be rebuilt")
        stats = stages.stored_stats(self.store)
        neurons = {value: NeuronSet.load(self.store.root / f"neurons/{value}") for value in steered}
        gate = RelevanceGate.load(self.store.root / "gate.safetensors") if gated else None
        layers = tuple(self.store.read_json("cells/vector_layers.json")["layers"])
        evidence = stages.evidence_of(self.store, model, stats, neurons, self.config, gate)
        return replace(evidence, layers=layers)

    def pairs(self) -> ContrastSet:
        """Load the run's contrast set.

        Raises:
            InputError: The prompts are missing or have changed.
        """
        pairs = stages.limit_rows(run_prompts(self.store, self.config), self.config.spending().rows_per_value)
        if pairs.hash != self.manifest["prompt_hash"]:
            raise InputError(f"{self.store.root} was made on other prompts than {self.config.prompts} holds now")
        return pairs

    def cells(self, model: models.Model, **profile: Any) -> CellRunner:
        """Return the run's cells, which can measure more edits with its judge and prompts.

        Args:
            model: Loaded model with the run's weights.
            profile: Fields of the budget to change (`targets`).
        """
        spending = replace(self.config.spending(), **profile)
        scorer = stages.make_scorer(self.store, model, self.pairs(), self.config, spending)
        return CellRunner(self.store, model, scorer, self.config, spending)

    def _edit(self, evidence: Evidence, method: str, value: str, target: float) -> RunEdit:
        matched_gain = None if find_method(method).dose == "none" else target
        name = f"cells/measure/{method}/{value}@{matched_gain}.json"
        if not self.store.has(name):
            raise InputError(f"{self.store.root} lacks {name}: the dose of {method} for {value} is not known")
        record = self.store.read_json(name)
        edit = build(method, evidence, value)
        if matched_gain is not None:
            edit = edit.with_dose(0.0 if record["dose"] is None else record["dose"])
        lender = find_method(method).dose_of
        status = f"dose of {lender}" if lender else record["status"]
        return RunEdit(method, value, record["dose"], status, matched_gain, edit)
