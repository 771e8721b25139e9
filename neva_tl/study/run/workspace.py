"""The objects that measuring a study needs.

They are set up in the same way in the parent process and in every worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from neva_tl import models
from neva_tl.core.errors import InputError, reason_of
from neva_tl.core.method_records import find_method
from neva_tl.editing import Edit
from neva_tl.evaluation.judges.base import Judge
from neva_tl.methods import Evidence, build
from neva_tl.study.report.control import CONTROL, needs_control
from neva_tl.study.run import stages
from neva_tl.study.run.cell_runner import CellRunner
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.control import control_cell
from neva_tl.study.run.optional import bring_back, leave_out, optional
from neva_tl.study.run.run_folder import RunFolder


@dataclass(eq=False)
class StudyWorkspace:
    """A study's cells with the evidence for its edits.

    Attributes:
        cells: Measurements, cached in the run folder.
        evidence: Evidence from which methods build edits.
        steered: The values that have neurons.
        plan: (method, target gain) of every condition; target None for methods without a dose.
    """

    cells: CellRunner
    evidence: Evidence
    steered: tuple[str, ...]
    plan: tuple[tuple[str, float | None], ...]
    _edits: dict[tuple[str, str], Edit] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        store: RunFolder,
        model: models.Model,
        pairs: Any,
        config: StudyConfig,
        *,
        judge: Judge | None = None,
        progress: bool = False,
    ) -> StudyWorkspace:
        """Collect and select, as far as the run folder lacks it, and set up the judge.

        Values without prompts or without neurons, a gate that cannot be fitted, and optional methods that cannot be built are
        left out with a reason.

        Args:
            store: The run folder.
            model: The loaded model.
            pairs: The contrast set (rows limited by the profile).
            config: The resolved study.
            judge: The judge of texts, where it is already loaded.
            progress: Print each step on stderr.
        """
        profile = config.spending()
        stats = stages.collected(store, model, pairs, config, progress)
        requested, config = config.values, stages.steerable(config, stats)
        for name in requested:
            if name not in config.values:
                leave_out(store, f"Value {name}", f"{pairs.name} has no prompts for it")
        neurons = stages.selected(store, model, stats, config, progress)
        steered = tuple(name for name in config.values if len(neurons[name]))
        for name in config.values:
            if name not in steered:
                leave_out(store, f"Value {name}", "no neuron was selected: more pairs, or clearer ones, may show some")
        stages.write_evidence(store, model, pairs, stats, neurons)
        gate = stages.relevance_gate(store, model, pairs, config)
        if gate is None:
            config = replace(config, gate="none")
        scorer = stages.make_scorer(store, model, pairs, config, profile, judge)
        cells = CellRunner(store, model, scorer, config, profile)
        evidence = stages.evidence_of(store, model, stats, neurons, config, gate)
        evidence = replace(evidence, layers=cells.vector_layers(evidence, steered))
        workspace = cls(cells, evidence, steered, conditions(config.methods, profile.targets))
        return workspace._without_optional(config.methods)

    def _without_optional(self, methods: Sequence[str]) -> StudyWorkspace:
        """Leave out the optional methods (`Method.optional`) that cannot be built or measured here, with a reason.

        Args:
            methods: The study's methods.

        Raises:
            InputError: No method remains.
        """
        store, remaining, reason = self.cells.store, [], ""
        for method in methods:
            part = f"Method {method}"
            try:
                if find_method(method).optional:
                    for value in self.steered:
                        self.cells.scorer.check_edit(self.edit_of(method, value))
            except InputError as error:
                reason = reason_of(error)
                leave_out(store, part, reason)
            else:
                bring_back(store, part)
                remaining.append(method)
        if not remaining:
            raise InputError(reason)
        self.plan = conditions(remaining, self.cells.profile.targets)
        return self

    @property
    def searched(self) -> tuple[str, ...]:
        """The methods whose doses are searched."""
        sources = [dose_source(method) for method, _ in self.plan]
        return tuple(dict.fromkeys(source for source in sources if source is not None))

    def names(self, value: str) -> list[str]:
        """Return the files that mark the finished cells of a value, in order.

        Args:
            value: The steered value.
        """
        doses = [f"cells/dose/{method}/{value}.json" for method in self.searched]
        measured = [f"cells/measure/{method}/{value}@{target}.json" for method, target in self.plan]
        # the plan has the control's cell where it has the method
        control = [f"{control_cell(value)}.json"] if self.controlled else []
        return [*doses, *dict.fromkeys([*measured, *control]), f"cells/ablation/{value}.parquet"]

    @property
    def controlled(self) -> bool:
        """Whether the study measures a positive control of its judge."""
        return needs_control(self.cells.config.judge)

    def edit_of(self, method: str, value: str) -> Edit:
        """Return the edit of a method for a value, cached.

        Args:
            method: Registered name.
            value: The steered value.
        """
        if (method, value) not in self._edits:
            self._edits[method, value] = build(method, self.evidence, value)
        return self._edits[method, value]

    @property
    def block(self) -> int | None:
        """Number of values that are measured together: None for all of them, or 1.

        On the demo's tiny model all values are measured together, with their texts in common batches. Results of a block are
        stored at its end, so a model whose cells take minutes is measured value by value.
        """
        return None if self.cells.config.judge == "exact" else 1

    def measure(self, values: Sequence[str], on_cell: Callable[[str], None] = lambda _: None) -> None:
        """Measure the unfinished cells of some values.

        The order is doses, conditions, positive control, ablation.

        Args:
            values: Steered values.
            on_cell: Called with a description before each cell.
        """
        about = values[0] if len(values) == 1 else f"{len(values)} values"
        doses = {}
        for method in self.searched:
            on_cell(f"dose of {method} for {about}")
            doses[method] = self.cells.calibrations(method, values, self.edit_of)
        for method, target in self.plan:
            on_cell(f"{method} for {about}")
            source = dose_source(method)
            self.cells.conditions(method, target, values, self.edit_of, None if source is None else doses[source])
        for value in values if self.controlled else ():
            on_cell(f"positive control for {value}")
            with optional(self.cells.store, f"Positive control of {value}"):
                self.cells.conditions(CONTROL, None, (value,), self.edit_of, None)
        on_cell(f"ablation for {about}")
        for value in values:
            with optional(self.cells.store, f"Ablation of {value}"):
                self.cells.ablation(value, self.evidence.neurons[value], self.evidence.gate)


def conditions(methods: Sequence[str], targets: Sequence[float]) -> tuple[tuple[str, float | None], ...]:
    """List the conditions of a study.

    Args:
        methods: Registered names.
        targets: Target gains.

    Returns:
        (method, target): every method at every target gain, a method without a dose once, with target None.
    """
    return tuple((m, t) for m in methods for t in ((None,) if dose_source(m) is None else targets))


def dose_source(method: str) -> str | None:
    """Name the method whose calibrated dose a method takes, by default its own.

    Args:
        method: A registered name.

    Returns:
        The name; None for a method without a dose.
    """
    record = find_method(method)
    return None if record.dose == "none" else record.dose_of or method
