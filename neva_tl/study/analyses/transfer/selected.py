"""A selection: the neurons and edits of one source, or of several at once, with their doses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neva_tl import models
from neva_tl.activations import ActivationStats
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Edit
from neva_tl.methods import Evidence, build
from neva_tl.prompts import ContrastSet
from neva_tl.study.analyses.transfer.config import TransferConfig
from neva_tl.study.analyses.transfer.phrasings import other_phrasings, phrased_scorer, systems_of
from neva_tl.study.analyses.transfer.scored import Scored
from neva_tl.study.run import stages
from neva_tl.study.run.cell_runner import CellRunner
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.run_folder import RunFolder


@dataclass(eq=False)
class Selected:
    """A selection.

    Attributes:
        name: Name in the column `source`.
        folder: Name of its cells in the folders of scored sources.
        sources: Names of the sources that it was selected on.
        systems: System prompts of these sources.
        cells: The study's cells on them.
        neurons: Value -> its neurons.
        evidence_of: Value -> the evidence of its edits.
        values: Steered values, once the doses are set.
        edits: (method, value) -> the edit at its dose.
        status: (method, value) -> `fixed`, `reached` or `unreached`.
    """

    name: str
    folder: str
    sources: tuple[str, ...]
    systems: frozenset[str | None]
    cells: CellRunner
    neurons: Mapping[str, NeuronSet]
    evidence_of: Callable[[str], Evidence]
    values: tuple[str, ...] = ()
    edits: dict[tuple[str, str], Edit] = field(default_factory=dict)
    status: dict[tuple[str, str], str] = field(default_factory=dict)

    def set_doses(self, values: Sequence[str], config: TransferConfig) -> None:
        """Give every edit the dose of the validation items, or the fixed dose.

        Args:
            values: Steered values.
            config: Settings.
        """
        self.values = tuple(values)

        def edit_of(method: str, value: str) -> Edit:
            return build(method, self.evidence_of(value), value)

        for method in config.methods:
            calibrations = self.cells.calibrations(method, values, edit_of) if config.dose is None else {}
            for value in values:
                dose, status = config.dose, "fixed"
                if config.dose is None:
                    dose = calibrations[value]["doses"][str(self.cells.profile.targets[0])]
                    status = "unreached" if dose is None else "reached"
                    # a target out of reach takes the admissible dose that gained most, with status `unreached`
                    dose = calibrations[value]["best"] if dose is None else dose
                self.edits[method, value] = edit_of(method, value).with_dose(0.0 if dose is None else dose)
                self.status[method, value] = status


@dataclass(eq=False)
class Source:
    """A source: its statistics, the selection on it, and its items under each phrasing.

    Attributes:
        name: Its name.
        study: Its study.
        about: Manifest of its folder.
        stats: Statistics of its train split.
        selected: The selection on it.
        scored: Its test items, the own phrasing first.
        measured: Values that it covers among the measured ones.
    """

    name: str
    study: StudyConfig
    about: Mapping[str, object]
    stats: ActivationStats
    selected: Selected
    scored: tuple[Scored, ...]
    measured: tuple[str, ...]

    @classmethod
    def open(
        cls,
        name: str,
        study: StudyConfig,
        store: Path,
        model: models.Model,
        pairs: ContrastSet,
        phrasings: int,
        progress: bool,
    ) -> Source:
        """Collect, select and freeze the judge's unit on one source.

        Results that its folder has are read instead.

        Args:
            name: Name of the source.
            study: Its study.
            store: Its folder.
            model: The loaded model.
            pairs: Its pairs, of the measured values that it covers.
            phrasings: Number of phrasings of the system prompt.
            progress: Show bars on stderr.

        Raises:
            InputError: The folder belongs to another study.
            WorkError: No neuron was selected for any value.
        """
        about = stages.manifest(study, model, pairs, ["transfer"])
        folder = RunFolder.open(store, about)
        if not folder.has("manifest.json"):
            folder.write_json("manifest.json", about)
        profile = study.spending()
        stats = stages.collected(folder, model, pairs, study, progress)
        neurons = stages.selected(folder, model, stats, study, progress)
        scorer = stages.make_scorer(folder, model, pairs, study, profile)
        chat = study.chat is not False and models.info(model).chat
        evidence = Evidence(model, stats, neurons, study.token_scope(), chat=chat, seed=study.seed)
        cells = CellRunner(folder, model, scorer, study, profile)
        systems = systems_of(pairs)
        scored = [Scored(name, name, systems, True, folder, scorer, pairs.values)]
        for number, system in enumerate(other_phrasings(pairs, phrasings), 2):
            other = phrased_scorer(scorer, system)
            label = f"{name}, phrasing {number}"
            scored.append(Scored(label, name, frozenset({system}), False, folder, other, pairs.values))
        selected = Selected(name, name, (name,), systems, cells, neurons, lambda _: evidence)
        return cls(name, study, about, stats, selected, tuple(scored), pairs.values)
