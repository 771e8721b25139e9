"""Measurements of a study, each cached in the run folder by its name.

A cell is one calibration (method, value), one measured condition (method, value, target gain), or one ablation. Its record
is JSON, its item scores and texts are tables; the JSON is written last, so its presence marks a complete cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.auto import grid_of_unit
from neva_tl.core.messages import progress_bar
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Ablate, Edit, RelevanceGate, calibrate_many
from neva_tl.editing.calibrate import DosePoint
from neva_tl.editing.edits.rewriting import split_rewriting
from neva_tl.evaluation.conditions.decoding import Decoding
from neva_tl.evaluation.conditions.fluency import admissible
from neva_tl.evaluation.conditions.observe import Observed, write_texts
from neva_tl.evaluation.judges.base import legible
from neva_tl.methods import Evidence, build, dose_unit
from neva_tl.models import Model
from neva_tl.models.inference.prompt_cache import Prefill
from neva_tl.study.run.config import Profile, StudyConfig
from neva_tl.study.run.cost_meter import CostMeter
from neva_tl.study.run.optional import optional
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.scorers import Scorer, demo_expressing, to_frame

#: Dose at which vector layers are compared on validation prompts, and the number of values for judges that read texts (for
#: other judges, all values).
LAYER_DOSE, LAYER_STEERED = 2.0, 3


def grid_of(method: str) -> tuple[float, ...]:
    """Return the coarse dose grid of a method.

    Args:
        method: Registered name.
    """
    return grid_of_unit(dose_unit(method))


@dataclass(eq=False)
class CellRunner:
    """Measures the cells of one study.

    Attributes:
        store: The run folder.
        model: The loaded model.
        scorer: The judge with its prompts.
        config: The resolved study.
        profile: Its budget.
    """

    store: RunFolder
    model: Model
    scorer: Scorer
    config: StudyConfig
    profile: Profile
    _prefill: Prefill = field(default_factory=Prefill)

    @cached_property
    def cost_meter(self) -> CostMeter:
        """Capability and fluency, with the unedited model's log-probabilities cached."""
        return CostMeter(self.model, self.config, self.profile)

    # ------------------------------------------------------------ the unedited model

    @cached_property
    def base_validation(self) -> Observed:
        """The unedited model on validation prompts."""
        return self.scorer.observe((), "validation")

    @cached_property
    def base_invalid(self) -> float:
        """Invalid rate of the unedited model on validation prompts."""
        return self.scorer.invalid((), "validation", self.base_validation)[0]

    @cached_property
    def base(self) -> dict[str, Any]:
        """Record of the unedited model on test prompts (tables `items` and `texts`)."""
        name = "cells/base"
        if not self.store.has(f"{name}.json"):
            observed = self.scorer.observe((), "test")
            self._write_observed(name, observed)
            self.store.write_json(f"{name}.json", self._record(observed, (), ""))
        return self.store.read_json(f"{name}.json")

    # ------------------------------------------------------------ doses

    def vector_layers(self, evidence: Evidence, steered: Sequence[str]) -> tuple[int, ...]:
        """Select the layer of the vector methods.

        It is the layer with the largest mean validation gain of plain CAA at `LAYER_DOSE`. Candidates are five depths (all
        layers of a small model), measured on all values, or on `LAYER_STEERED` of them where the judge reads texts.

        Args:
            evidence: Evidence from which the vectors are built.
            steered: Steered values.
        """
        name = "cells/vector_layers"
        if not self.store.has(f"{name}.json"):
            n = evidence.stats.n_layers
            candidates = range(n) if n <= 6 else sorted({round(f * (n - 1)) for f in (0.3, 0.4, 0.5, 0.6, 0.7)})
            sampled_values = (
                steered[:: max(1, len(steered) // LAYER_STEERED)][:LAYER_STEERED] if self.scorer.reads else steered
            )
            gains: dict[int, float] = {}
            for layer in progress_bar(candidates, desc="vector layer", unit="layer", leaf=False):
                evidence_at = replace(evidence, layers=(int(layer),))
                gains_of_layer = []
                for value in sampled_values:
                    observed = self.scorer.observe(
                        (build("caa", evidence_at, value).with_dose(LAYER_DOSE),), "validation", (value,)
                    )
                    gains_of_layer.append(observed.csr(value) - self.base_validation.csr(value))
                gains[int(layer)] = float(np.mean(gains_of_layer))
            best = max(gains, key=lambda layer: gains[layer])
            self.store.write_json(f"{name}.json", {"layers": [best], "validation_gain": gains})
        return tuple(self.store.read_json(f"{name}.json")["layers"])

    def calibrations(
        self, method: str, values: Sequence[str], edit_of: Callable[[str, str], Edit]
    ) -> dict[str, dict[str, Any]]:
        """Return a method's doses at each target gain, calibrated on validation prompts.

        Args:
            method: Registered name.
            values: Steered values, calibrated together.
            edit_of: (method, value) -> edit.

        Returns:
            Value -> record of its calibration.
        """
        names = {value: f"cells/dose/{method}/{value}.json" for value in values}
        self.search(
            {name: (value, edit_of(method, value)) for value, name in names.items() if not self.store.has(name)},
            grid_of(method),
        )
        return {value: self.store.read_json(name) for value, name in names.items()}

    def search(self, edits: Mapping[str, tuple[str, Edit]], grid: Sequence[float]) -> None:
        """Calibrate some edits together, and store their doses at each target gain.

        Args:
            edits: Name of the record -> (the value that is steered towards, the edit).
            grid: Doses of the coarse search.
        """
        todo = list(edits.values())
        rates: list[dict[float, float]] = [{} for _ in todo]

        def metric(requests: Sequence[tuple[int, Edit]]) -> list[DosePoint]:
            return self.dose_points([(todo[i][0], edit) for i, edit in requests], [rates[i] for i, _ in requests])

        calibrations = calibrate_many(
            [edit for _, edit in todo],
            metric,
            self.profile.targets,
            grid=grid,
            base_invalid=self.base_invalid if todo else 0.0,
            refine=self.profile.refine,
        )
        for name, one in zip(edits, calibrations, strict=True):
            record = {
                "doses": {str(t): d for t, d in one.doses.items()},
                "best": one.best,
                "table": one.table.to_dict("records"),
            }
            self.store.write_json(name, record)

    def dose_points(
        self, requests: Sequence[tuple[str, Edit]], rates: Sequence[dict[float, float]] | None = None
    ) -> list[DosePoint]:
        """Measure gain, invalid rate and (text judges) leakage on validation prompts.

        Args:
            requests: Steered value, and edit at its dose.
            rates: For each request, dose -> invalid rate measured earlier for the same edit; updated in place. None starts
                without such rates.
        """
        if self.scorer.asks:
            observed = self.scorer.observe_own(requests, "validation")
        else:
            observed = self.scorer.observe_many([(edit,) for _, edit in requests], "validation")
        points = []
        before = [{} for _ in requests] if rates is None else rates
        for (value, edit), one, known_rates in zip(requests, observed, before, strict=True):
            gain = one.csr(value) - self.base_validation.csr(value)
            extra = {}
            if not self.scorer.asks:
                others = [one.csr(v) - self.base_validation.csr(v) for v in one.items.values if v != value]
                extra["leakage"] = float(np.mean(np.maximum(others, 0))) if others else float("nan")
            points.append(DosePoint(gain, self._invalid(edit, one, gain, known_rates), extra))
        return points

    def _invalid(self, edit: Edit, observed: Observed, gain: float, known_rates: dict[float, float]) -> float:
        """Return the invalid rate at a dose.

        For judges that read no texts, generates texts only once the gain reaches the smallest target, and reuses the rate of
        the nearest larger admissible dose: generation is several times slower than scoring, and texts break as doses grow.
        """
        if self.scorer.reads:
            return self.scorer.invalid((edit,), "validation", observed)[0]
        if gain < self.profile.targets[0]:
            return 0.0
        above = [dose for dose, rate in known_rates.items() if dose > edit.dose and admissible(rate, self.base_invalid)]
        if above:
            return known_rates[min(above)]
        known_rates[edit.dose] = self.scorer.invalid((edit,), "validation", observed)[0]
        return known_rates[edit.dose]

    # ------------------------------------------------------------ conditions

    def conditions(
        self,
        method: str,
        target: float | None,
        values: Sequence[str],
        edit_of: Callable[[str, str], Edit],
        doses: Mapping[str, Mapping[str, Any]] | None,
    ) -> None:
        """Measure one method at one target gain on test prompts, for each steered value.

        Args:
            method: Registered name.
            target: Matched gain; None for a method without a dose.
            values: Steered values.
            edit_of: (method, value) -> edit.
            doses: Value -> record of its calibration; None for a method without a dose.
        """
        todo: list[tuple[str, tuple[Edit, ...], dict[str, Any]]] = []
        for value in values:
            name = f"cells/measure/{method}/{value}@{target}"
            if self.store.has(f"{name}.json"):
                continue
            edit = edit_of(method, value)
            dose, status = None, "own gain"
            if doses is not None and target is not None:
                dose = doses[value]["doses"][str(target)]
                status = "unreached" if dose is None else "reached"
                # a target out of reach is measured at the admissible dose that gained most, with status `unreached`
                dose = doses[value]["best"] if dose is None else dose
                edit = edit.with_dose(dose if dose is not None else 0.0)
            about = {"dose": dose, "status": status}
            same = self._same_dose(method, value, target, dose)
            if same is None:
                todo.append((name, (edit,), about))
            else:
                self.store.write_json(f"{name}.json", self._copy_cell(same, name) | about)
        self.measure(todo)

    def measure(self, todo: Sequence[tuple[str, Sequence[Edit], Mapping[str, Any]]]) -> None:
        """Measure conditions on test prompts, and store each as a cell.

        Texts are generated in common batches.

        Args:
            todo: Name of the cell, its edits, and further fields of its record.
        """
        observed = self.scorer.observe_many([edits for _, edits, _ in todo], "test")
        for (name, edits, about), one in zip(todo, observed, strict=True):
            self._write_observed(name, one)
            self.store.write_json(f"{name}.json", self._record(one, edits, name) | dict(about))

    def _same_dose(self, method: str, value: str, target: float | None, dose: float | None) -> str | None:
        """Return the finished cell of another target with the same dose, if any.

        Two targets have the same dose where neither is reached, for example.
        """
        for other in self.profile.targets:
            name = f"cells/measure/{method}/{value}@{other}"
            if other != target and dose is not None and self.store.has(f"{name}.json"):
                stored_dose = self.store.read_json(f"{name}.json")["dose"]
                if stored_dose is not None and abs(stored_dose - dose) < 1e-12:
                    return name
        return None

    def _copy_cell(self, source: str, name: str) -> dict[str, Any]:
        for kind in ("items", "texts"):
            if self.store.has(f"{source}.{kind}.parquet"):
                self.store.write_table(f"{name}.{kind}", self.store.read_table(f"{source}.{kind}"), csv=False)
        return self.store.read_json(f"{source}.json")

    def ablation(self, value: str, neurons: NeuronSet, gate: RelevanceGate | None) -> pd.DataFrame:
        """Score a value on prompts that express it, with and without its neurons.

        Args:
            value: The value.
            neurons: Its neurons.
            gate: The study's relevance gate.

        Returns:
            Item scores with a column `operation`: `none`, `zero` or `mean`.
        """
        name = f"cells/ablation/{value}"
        if not self.store.has(f"{name}.parquet"):
            edit = Ablate(neurons, effects="all", scope=self.config.token_scope(), gate=gate)
            modes: tuple[tuple[str, tuple[Edit, ...]], ...] = (
                ("none", ()),
                ("zero", (edit,)),
                ("mean", (replace(edit, mode="mean"),)),
            )
            rows = []
            observed = self._expressing(value, [edits for _, edits in modes])
            for (mode, _), result in zip(modes, observed, strict=True):
                frame = to_frame(result)
                target_scores = frame[(frame["kind"] == "score") & (frame["measured"] == value)]
                rows.append(target_scores.assign(value=value, operation=mode))
            self.store.write_table(name, pd.concat(rows, ignore_index=True), csv=False)
        return self.store.read_table(name)

    def _expressing(self, value: str, conditions: Sequence[Sequence[Edit]]) -> list[Observed]:
        if self.scorer.reads and self.config.demo:
            return self.scorer.read_many(conditions, demo_expressing(value, self.profile.test))
        return self.scorer.observe_many(conditions, "test", (value,))

    def _record(self, observed: Observed, edits: Sequence[Edit], name: str) -> dict[str, Any]:
        """Return the record of a condition.

        Args:
            observed: Scores of the condition.
            edits: Its edits.
            name: Name of its cell; empty for the unedited model. Capability that the unedited model lacks is not measured.
        """
        invalid, n_texts = self.scorer.invalid(edits, "test", observed)
        affirmation = observed.items.extra.get("affirmation")
        suffix = f" under {name.removeprefix('cells/measure/')}" if name else ""
        costs: dict[str, dict[str, float]] = {"capability": {}, "fluency": {}}
        # a rewritten answer leaves the log-probabilities of given texts as they are: there is nothing to measure
        if not split_rewriting(edits)[1] and (not name or self.base["capability"]):
            with optional(self.store, f"Capability{suffix}"):
                costs["capability"] = self.cost_meter.capability(edits)
        with optional(self.store, f"Fluency{suffix}"):
            costs["fluency"] = self.cost_meter.fluency(observed.generations)
        return {
            "invalid": invalid,
            "n_texts": n_texts,
            "affirmation": None if affirmation is None else float(np.nanmean(affirmation[0])),
            **costs,
        }

    def _write_observed(self, name: str, observed: Observed) -> None:
        self.store.write_table(f"{name}.items", to_frame(observed), csv=False)
        if observed.generations is not None:
            self.store.write_table(f"{name}.texts", observed.generations, csv=False)

    # ------------------------------------------------------------ example texts

    def example_texts(
        self, conditions: Sequence[tuple[str, str, float | None, Edit | None]], prompts: Sequence[str]
    ) -> pd.DataFrame:
        """Generate greedy texts of the same prompts under each condition.

        Args:
            conditions: Method, steered value, target gain and edit of each condition.
            prompts: The prompts.
        """
        decoding = Decoding(max_new_tokens=self.profile.max_new_tokens, chat=self.config.chat)
        frames = []
        for method, value, target, edit in progress_bar(conditions, desc="example texts", unit="condition", leaf=False):
            name = f"cells/texts/{method}/{value or 'none'}@{target}"
            if not self.store.has(f"{name}.parquet"):
                texts = write_texts(
                    self.model, () if edit is None else (edit,), prompts, decoding, prefill=self._prefill
                )
                table = pd.DataFrame({"prompt": list(prompts), "text": texts, "valid": legible(texts)})
                self.store.write_table(name, table, csv=False)
            about = {"method": method, "steered": value, "target_gain": target}
            frames.append(self.store.read_table(name).assign(**about))
        table = pd.concat(frames, ignore_index=True)
        return table[["method", "steered", "target_gain", "prompt", "text", "valid"]].astype({"target_gain": float})
