"""Cells of a search for edits that show in the text: one candidate at one dose on the open validation prompts.

Each cell is a JSON record and the judged texts, stored as soon as it is measured, so that a killed search resumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from neva_tl import models
from neva_tl.core.auto import grid_of_unit
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar, say
from neva_tl.core.method_records import find_method
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import DosePoint, Edit, calibrate_many
from neva_tl.evaluation.conditions.fluency import admissible
from neva_tl.evaluation.judges.base import repeated_share
from neva_tl.evaluation.measures.wrong_way import pushed_down
from neva_tl.methods import Evidence
from neva_tl.study.analyses.text_candidates import Candidate, edit_of, neurons_of
from neva_tl.study.analyses.text_levels import interval_of_mean
from neva_tl.study.run import stages
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.cost_meter import CostMeter
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.scorers import Scorer

#: A dose is admissible while the perplexity of its texts stays within this multiple of the unedited texts'.
MOST_PERPLEXITY = 1.3
#: Target of the dose search that no gain reaches, so that the grid is walked to its end.
_NO_TARGET = 1e9
#: Conditions whose texts are generated together and then stored.
_CONDITIONS = 4
#: Name of the unedited model's cell.
_BASE = "cells/text/unedited"


@dataclass(eq=False)
class TextCells:
    """Measures candidates, as far as the folder lacks them.

    Attributes:
        store: The folder.
        model: The loaded model.
        study: The study whose statistics and judge are used.
        scorer: The judge with its open prompts.
        evidence: Evidence, without neurons.
        value: The steered value.
        measured: Other values, on which leakage is read.
        doses: Grid of edits in contrasts; empty takes the study's.
        progress: Show bars on stderr.
    """

    store: RunFolder
    model: models.Model
    study: StudyConfig
    scorer: Scorer
    evidence: Evidence
    value: str
    measured: tuple[str, ...]
    doses: tuple[float, ...]
    progress: bool
    _sizes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cost = CostMeter(self.model, self.study, self.study.spending())
        for name in self.values:
            if name not in self.scorer.values:
                raise InputError(f"the judge does not score {name}: it scores {', '.join(self.scorer.values)}")

    @property
    def values(self) -> tuple[str, ...]:
        """The value and the values on which leakage is read."""
        return (self.value, *(name for name in self.measured if name != self.value))

    # ------------------------------------------------------------ edits

    def edits(self, listed: Sequence[Candidate], methods: Sequence[str]) -> dict[Candidate, Edit]:
        """Build the edits of candidates with neurons, and of reference methods, at dose 1.

        Args:
            listed: The candidates.
            methods: Registered methods.

        Raises:
            InputError: No candidate has neurons, or a method lacks something.
        """
        out: dict[Candidate, Edit] = {}
        first: NeuronSet | None = None
        for one in progress_bar(listed, desc="selecting", unit="candidate", progress=self.progress):
            neurons = self._neurons(one)
            if not len(neurons):
                say(f"{one.name}: no neuron was selected", self.progress)
                continue
            out[one] = edit_of(one, self.value, self.evidence, neurons)
            first = neurons if first is None else first
        if first is None:
            raise InputError("no candidate has neurons: more pairs, or clearer ones, may show some")
        reference = replace(self.evidence, neurons={self.value: first})
        return out | {Candidate(name): edit_of(Candidate(name), self.value, reference, None) for name in methods}

    def _neurons(self, one: Candidate) -> NeuronSet:
        file = f"neurons/{one.set_name}"
        if not self.store.has(f"{file}.json"):
            stats, margins, seed = self.evidence.stats, self.evidence.margins, self.study.seed
            if one.selection == "margin" and margins is None:
                margins = stages.margins(self.store, self.model, stats, self.study, self.progress)
            neurons_of(one, self.value, stats, self.model, seed=seed, margins=margins).save(self.store.path(file))
        neurons = NeuronSet.load(self.store.root / file)
        self._sizes[one.name] = len(neurons)
        return neurons

    # ------------------------------------------------------------ measuring

    def measure(self, edits: Mapping[Candidate, Edit]) -> None:
        """Walk the dose grids of all edits; finished cells are read.

        Args:
            edits: Candidates and their edits.

        Raises:
            WorkError: The judge gave no score.
        """
        fixed = [one for one in edits if not _searched(one)]
        self._cells([(one, edits[one]) for one in fixed])
        searched = {one: edit for one, edit in edits.items() if one not in fixed}
        for unit in dict.fromkeys(edit.unit for edit in searched.values()):
            ones = [one for one, edit in searched.items() if edit.unit == unit]

            def metric(requests: Sequence[tuple[int, Edit]], ones: list[Candidate] = ones) -> list[DosePoint]:
                self._cells([(ones[i], edit) for i, edit in requests])
                return [self._point(ones[i], edit) for i, edit in requests]

            calibrate_many(
                [searched[one] for one in ones],
                metric,
                _NO_TARGET,
                grid=self._grid(searched[ones[0]]),
                base_invalid=self.unedited()["invalid"],
                refine=0,
            )

    def _point(self, one: Candidate, edit: Edit) -> DosePoint:
        record = self.store.read_json(f"{_cell(one, edit)}.json")
        gain = float("nan") if record["gain"] is None else record["gain"]
        # the search stops where texts break, by the invalid rate or by the perplexity
        return DosePoint(gain, record["invalid"] if record["admissible"] else 1.0)

    def _grid(self, edit: Edit) -> tuple[float, ...]:
        listed = edit.unit == "contrasts" and self.doses
        return tuple(sorted(set(self.doses))) if listed else grid_of_unit(edit.unit)

    def _cells(self, requests: Sequence[tuple[Candidate, Edit]]) -> None:
        """Measure conditions that the folder lacks, a few at a time."""
        before = self.unedited()
        todo = [(one, edit) for one, edit in requests if not self.store.has(f"{_cell(one, edit)}.json")]
        starts = range(0, len(todo), _CONDITIONS)
        for start in progress_bar(starts, desc="texts", unit="batch", progress=self.progress, leaf=False):
            batch = todo[start : start + _CONDITIONS]
            observed = self.scorer.observe_many([(edit,) for _, edit in batch], "validation", self.values)
            for (one, edit), result in zip(batch, observed, strict=True):
                assert result.generations is not None
                name = _cell(one, edit)
                self.store.write_table(f"{name}.texts", result.generations, csv=False)
                self.store.write_json(f"{name}.json", self._record(result.generations, edit, before))

    def unedited(self) -> dict[str, Any]:
        """Return the figures of the unedited model's texts: repeated, invalid, perplexity and P of each value."""
        if not self.store.has(f"{_BASE}.json"):
            observed = self.scorer.observe((), "validation", self.values)
            assert observed.generations is not None
            texts = observed.generations
            self.store.write_table(f"{_BASE}.texts", texts, csv=False)
            scores = {f"p_{name}": float(texts[f"score_{name}"].mean()) for name in self.values}
            self.store.write_json(f"{_BASE}.json", {**self._language(texts), **scores})
        return dict(self.store.read_json(f"{_BASE}.json"))

    def _language(self, texts: pd.DataFrame) -> dict[str, float]:
        fluency = self.cost.fluency(texts)
        return {
            "repeated": float(np.mean([repeated_share(text, 3) for text in texts["text"]])),
            "invalid": fluency["invalid"],
            "perplexity": fluency.get("perplexity", float("nan")),
        }

    def _record(self, texts: pd.DataFrame, edit: Edit, before: Mapping[str, Any]) -> dict[str, Any]:
        changes = {name: self._change(texts, name) for name in self.values}
        change, topics = changes.pop(self.value), texts["topic"].to_numpy(dtype=str)
        mean, lo, hi = interval_of_mean(change, topics, self.study.spending().n_boot, self.study.seed)
        leaks = {name: interval_of_mean(leak, topics, 0)[0] for name, leak in changes.items()}
        language = self._language(texts)
        down = pushed_down(np.zeros(len(change)), change[None, :])[0]
        fluent = before["perplexity"] is not None and language["perplexity"] <= MOST_PERPLEXITY * before["perplexity"]
        return {
            "dose": edit.dose,
            "gain": mean,
            "gain_lo": lo,
            "gain_hi": hi,
            "wrong": float(np.mean(down[np.isfinite(down)])) if np.isfinite(down).any() else float("nan"),
            "leakage": float(np.mean(np.maximum(list(leaks.values()), 0))) if leaks else float("nan"),
            **{f"leakage_{name}": leak for name, leak in leaks.items()},
            **language,
            "admissible": bool(fluent and admissible(language["invalid"], before["invalid"])),
        }

    def _change(self, texts: pd.DataFrame, value: str) -> np.ndarray:
        """Change of each text's score against the unedited model's text on the same prompt."""
        column = f"score_{value}"
        return texts[column].to_numpy(dtype=float) - self._unedited_texts[column].to_numpy(dtype=float)

    @cached_property
    def _unedited_texts(self) -> pd.DataFrame:
        """The scored texts of the unedited model, once `unedited` has written them."""
        return self.store.read_table(f"{_BASE}.texts")

    # ------------------------------------------------------------ results

    def table(self, edits: Mapping[Candidate, Edit]) -> pd.DataFrame:
        """Return the records of all measured doses, one per row.

        Args:
            edits: Candidates and their edits.
        """
        rows = []
        for one, edit in edits.items():
            head = {"candidate": one.name, "selection": one.selection, "k": one.k, "layers": one.layers, "way": one.way}
            head |= {"neurons": self._sizes.get(one.name), "unit": edit.unit, "method": one.method}
            head |= {"placebo": one.placebo}
            for dose in self._grid(edit) if _searched(one) else (edit.dose,):
                name = _cell(one, edit.with_dose(dose))
                if self.store.has(f"{name}.json"):
                    rows.append(head | self.store.read_json(f"{name}.json") | {"cell": name})
        df = pd.DataFrame(rows)
        numbers = ("gain", "gain_lo", "gain_hi", "wrong", "leakage", "perplexity")
        return df.astype({"k": "Int64", "neurons": "Int64", **dict.fromkeys(numbers, float)})

    def changes(self, names: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the change of each text's score in some cells, and the topic of each text.

        Args:
            names: Names of cells.
        """
        topics = self._unedited_texts["topic"].to_numpy(dtype=str)
        return {name: self._change(self.store.read_table(f"{name}.texts"), self.value) for name in names}, topics


def _searched(one: Candidate) -> bool:
    """Whether a candidate's dose is searched: a role prompt, for example, has none."""
    return not one.method or find_method(one.selection).dose != "none"


def _cell(one: Candidate, edit: Edit) -> str:
    return f"cells/text/{one.name}@{edit.dose:g}"
