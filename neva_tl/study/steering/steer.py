"""steer(): collect, select, calibrate on held-out pairs, measure on test pairs.

It is a study of one concept: settings, judge, search for the dose and measures are those of `nv.Study`. Every step is stored
in the user's cache by its content (model, token ids, settings), so that a second call repeats nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl import models, prompts
from neva_tl.core.auto import AUTO, AUTO_METHODS
from neva_tl.core.cache import content_key
from neva_tl.core.errors import InputError
from neva_tl.core.files import to_json
from neva_tl.core.locks import lock_folder
from neva_tl.core.messages import long_steps, say, timed
from neva_tl.core.method_records import find_method
from neva_tl.core.theories import TheorySpec
from neva_tl.core.user_cache import entry_folder, prune
from neva_tl.core.versions import versions
from neva_tl.editing import Edit
from neva_tl.evaluation.measures.estimate import Estimate
from neva_tl.evaluation.measures.result import LeakageResult, measure
from neva_tl.methods import Evidence, build
from neva_tl.prompts import ContrastSet
from neva_tl.study.own_words.judging import Scorer
from neva_tl.study.report.card_measures import cost_rows
from neva_tl.study.run import stages
from neva_tl.study.run.cell_runner import CellRunner
from neva_tl.study.run.comparison import responses_of
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.evidence import evidence_folder
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.steering.advice import advice
from neva_tl.study.steering.control import steering_control
from neva_tl.study.steering.cost import cost_table
from neva_tl.study.steering.own_pairs import check_concept, own_pairs
from neva_tl.study.steering.result import SteeredTexts, SteeringResult

#: Budget of a steering, beyond the quick profile: held-out pairs to validate and to test on, and dose evaluations.
VALIDATION, TEST, NEUTRAL, REFINE = 24, 48, 20, 3
#: Budget on demo models, whose judge reads generated texts.
DEMO_VALIDATION, DEMO_TEST = 48, 60
#: Test prompts that are continued for the card.
TEXTS = 3


def steer(
    model: models.Model | str | Path,
    pairs: ContrastSet | str | Path | None = None,
    value: str | None = None,
    *,
    concept: str | None = None,
    definition: str = "",
    opposite: str = "",
    judge: Scorer = "auto",
    gain: float = 0.4,
    method: str = "auto",
    selector: str = "auto",
    k: int | None = None,
    scope: str = "auto",
    gate: str = "auto",
    chat: bool | None = None,
    dtype: str = "float32",
    matmul: str = "float32",
    seed: int = 0,
    theory: TheorySpec | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> SteeringResult:
    """Steer a model towards a concept, and measure what that did.

    Collects activations on the training pairs, selects neurons, searches the dose on the validation pairs, and measures gain,
    leakage and cost on the test pairs and on neutral text. A gain out of reach is a result, not an error: `status` is
    `unreached`, the edit has the best admissible dose, and `advice` says what would help. The role prompt's gain on the same test
    pairs is the positive control: where its interval is not above 0, the judge cannot measure the concept on this model.

    Args:
        model: A loaded model, or a name for `neva_tl.load`.
        pairs: Contrastive pairs, or an argument of `neva_tl.prompts.load`; None with `concept`.
        value: The concept to steer towards; None where the pairs cover one only. The others of the pairs measure leakage.
        concept: Name of the concept, in place of pairs: an instruct model writes them (`neva_tl.prompts.from_model`, with its
            defaults).
        definition: Meaning of the concept; see `neva_tl.prompts.from_model`.
        opposite: The concern that replaces the concept in roles against it; see `neva_tl.prompts.from_model`.
        judge: Judge that filters the model's answers; see `neva_tl.prompts.from_model`. It does not measure the gain.
        gain: Gain to reach on the validation pairs, in the judge's unit (real models: standard deviations of the
            log-probability margin).
        method: A registered name of `neva_tl.methods`; `auto` tries `AUTO_METHODS`.
        selector: A registered selector; `auto` is the study's.
        k: Largest number of neurons; None takes the selector's own default.
        scope: Token scope of the edit; `auto` is the study's.
        gate: `relevance`, `none`, or `auto` (the study's).
        chat: Force or forbid the chat template; None uses it where there is one.
        dtype: Number format, where the model is loaded here.
        matmul: `bf16` computes the matrix products of a float32 model in bfloat16, where the model is loaded here.
        seed: Seed of sampling and bootstraps.
        theory: Theory of the values, or the name or the file of one; None takes the one that their names imply.
        folder: Folder for the measurements, which no other process may write into; None takes one in the user's cache, where
            a second process waits for the first.
        progress: Show bars and one line per step on stderr.

    Returns:
        The edit at its dose, with gain, leakage and cost.

    Raises:
        InputError: An option is unknown, the pairs lack the value or are too few for the three splits, or the model has hooks;
            pairs and a concept were given, or neither.
        WorkError: No neuron was selected, a judge gave no score, or the model's answers give too few pairs.

    Example:
        >>> steered = nv.steer(model, pairs, "power", method="neva_shift", progress=False)
        >>> steered.value, steered.status
        ('power', 'reached')
        >>> texts = steered.generate("mara says that")
    """
    precision = {"dtype": dtype, "matmul": matmul}
    settings = {"selector": selector, "k": k, "scope": scope, "gate": gate, "chat": chat, **precision, "seed": seed}
    name = models.info(model).name if models.is_model(model) else str(model)
    if pairs is None or concept is not None:
        check_concept(pairs, value, concept, theory)
        _check_settings(name, gain, method, settings)
        model = model if models.is_model(model) else models.load(model, **precision)  # type: ignore[arg-type]
        pairs = own_pairs(model, str(concept), definition, opposite, judge, seed=seed, progress=progress)
    elif definition or opposite:
        raise InputError(
            "definition and opposite describe a concept without pairs: name it with concept, or leave them out"
        )
    contrast = prompts.load(pairs, theory=theory)
    target = _target(contrast, value)
    methods = AUTO_METHODS if method == AUTO else (method,)
    config = _config(name, contrast, target, gain, methods, settings)
    _check_dose(method)
    with timed(f"loading {name}"):
        loaded = model if models.is_model(model) else models.load(model, **precision)  # type: ignore[arg-type]
    if models.has_hooks(loaded):
        raise InputError("the model has hooks in force: leave the `with nv.edit(...)` block before steering")
    with long_steps(progress), _Bench.open(loaded, contrast, config, target, folder, progress) as bench:
        best, record = bench.calibrated(methods)
        result = bench.result(best, record, name)
    if folder is None:
        prune()
    return result


def steered_edit(
    model: models.Model,
    pairs: ContrastSet | str | Path,
    value: str | None = None,
    *,
    method: str = AUTO,
    dose: float | None = None,
    gain: float = 0.4,
    selector: str = "auto",
    k: int | None = None,
    scope: str = "auto",
    gate: str = "auto",
    chat: bool | None = None,
    seed: int = 0,
    theory: TheorySpec | None = None,
    progress: bool = False,
) -> tuple[str, Edit]:
    """Build the edit of `steer` without measuring it: at a dose, or at the one that reaches a gain on validation pairs.

    Args:
        model: The loaded model.
        pairs: See `steer`.
        value: See `steer`.
        method: See `steer`; with a dose, `auto` is the first of `AUTO_METHODS`.
        dose: Dose in the method's unit; None calibrates it (the best admissible dose where the gain is out of reach).
        gain: Gain to reach, without a dose.
        selector: See `steer`.
        k: See `steer`.
        scope: See `steer`.
        gate: See `steer`.
        chat: See `steer`.
        seed: See `steer`.
        theory: See `steer`.
        progress: See `steer`.

    Returns:
        The method, and the edit.

    Raises:
        InputError: See `steer`.
        WorkError: No neuron was selected.
    """
    contrast = prompts.load(pairs, theory=theory)
    target, name = _target(contrast, value), models.info(model).name
    settings = {"selector": selector, "k": k, "scope": scope, "gate": gate, "chat": chat, "seed": seed}
    methods = AUTO_METHODS if method == AUTO else (method,)
    if dose is not None:
        methods = methods[:1]
    config = _config(name, contrast, target, gain, methods, settings)
    with long_steps(progress), _Bench.open(model, contrast, config, target, None, progress) as bench:
        if find_method(methods[0]).dose == "none":
            return methods[0], bench.edit_of(methods[0], target)
        if dose is not None:
            return methods[0], bench.edit_of(methods[0], target).with_dose(dose)
        best, record = bench.calibrated(methods)
        reached = record["doses"][str(gain)]
        return best, bench.edit_of(best, target).with_dose((record["best"] or 0.0) if reached is None else reached)


def _check_dose(method: str) -> None:
    """Refuse a method without a dose."""
    if method != AUTO and find_method(method).dose == "none":
        raise InputError(f"{method} has no dose to calibrate: choose another method, or use nv.edit with it")


def _check_settings(name: str, gain: float, method: str, settings: Mapping[str, Any]) -> None:
    """Refuse unknown settings before a model is loaded, whatever the pairs.

    Raises:
        InputError: A setting is unknown, the gain is not above 0, or the method has no dose.
    """
    _check_dose(method)
    methods = AUTO_METHODS if method == AUTO else (method,)
    base = StudyConfig(model=name, prompts="schwartz", methods=methods, **settings)
    replace(base, overrides={"targets": (gain,)}).resolved().spending()


def _target(pairs: ContrastSet, value: str | None) -> str:
    """The concept to steer towards.

    Raises:
        InputError: The pairs cover several and none is named, or they lack it.
    """
    if value is not None:
        return pairs.for_value(value).values[0]
    if len(pairs.values) != 1:
        raise InputError(f"{pairs.name} covers {', '.join(pairs.values)}: name the value to steer towards")
    return pairs.values[0]


def _config(
    name: str, pairs: ContrastSet, value: str, gain: float, methods: tuple[str, ...], settings: Mapping[str, Any]
) -> StudyConfig:
    """The study of this steering, with every `auto` decided; `settings` are further fields of `StudyConfig`."""
    base = StudyConfig(model=name, prompts=pairs.name, values=(value,), methods=methods, **settings)
    budget = {"validation": VALIDATION, "test": TEST, "neutral": NEUTRAL}
    if base.demo:
        budget = {"validation": DEMO_VALIDATION, "test": DEMO_TEST}
    config = replace(base, overrides={**budget, "targets": (gain,), "refine": REFINE}).resolved(pairs)
    config.spending()  # refuses a gain that is not above 0 before a model is loaded
    return config


@dataclass(eq=False)
class _Bench:
    """The measurements of one steering.

    Attributes:
        cells: Measurements, cached in a folder.
        evidence: Evidence from which methods build edits.
        pairs: The contrast set, with the training rows limited by the profile.
        value: The concept.
        progress: Print each step on stderr.
    """

    cells: CellRunner
    evidence: Evidence
    pairs: ContrastSet
    value: str
    progress: bool

    @classmethod
    @contextmanager
    def open(
        cls,
        model: models.Model,
        pairs: ContrastSet,
        config: StudyConfig,
        value: str,
        folder: str | Path | None,
        progress: bool,
    ) -> Iterator[_Bench]:
        """Collect and select, as far as the cache lacks it, and set up the judge.

        The folder of the measurements is locked inside the block.
        """
        profile = config.spending()
        limited = stages.limit_rows(pairs, profile.rows_per_value)
        about = stages.manifest(config, model, limited, [])
        key = content_key(about["study"], versions())[:20]
        root = entry_folder("steering", key) if folder is None else folder
        with lock_folder(root, wait=folder is None):
            store = RunFolder.open(root, about)
            store.write_json("manifest.json", about)
            say(config.decisions, progress)
            with evidence_folder(model, limited, config) if folder is None else nullcontext(store) as shared:
                with timed("statistics"):
                    stats = stages.collected(shared, model, limited, config, progress)
                config = stages.steerable(config, stats)
                with timed("neurons"):
                    neurons = stages.selected(store, model, stats, config, progress, evidence=shared)
                gate = stages.relevance_gate(shared, model, limited, config)
                evidence = stages.evidence_of(shared, model, stats, neurons, config, gate)
            scorer = stages.make_scorer(store, model, limited, config, profile)
            cells = CellRunner(store, model, scorer, config, profile)
            if any(find_method(name).family == "vectors" for name in config.methods):
                evidence = replace(evidence, layers=cells.vector_layers(evidence, (value,)))
            yield cls(cells, evidence, limited, value, progress)

    def calibrated(self, methods: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
        """The method to use, and the record of its calibration.

        Args:
            methods: Candidates, in order of preference.
        """
        (target,) = self.cells.profile.targets
        records: dict[str, Mapping[str, Any]] = {}
        for method in methods:
            say(f"dose of {method} for {self.value}", self.progress)
            with timed(f"dose of {method}"):
                records[method] = self.cells.calibrations(method, (self.value,), self.edit_of)[self.value]
            if records[method]["doses"][str(target)] is not None:
                return method, records[method]
        best = max(records, key=lambda name: _best_gain(records[name]))
        return best, records[best]

    def edit_of(self, method: str, value: str) -> Edit:
        """The edit of a method, at dose 1."""
        return build(method, self.evidence, value)

    def result(self, method: str, record: Mapping[str, Any], name: str) -> SteeringResult:
        """Measure the edit at its dose on the test pairs and on neutral text."""
        (target,) = self.cells.profile.targets
        say(f"measuring {method} on test prompts", self.progress)
        assert self.cells.base  # measured before the edit, and stored
        with timed("measures on test prompts"):
            self.cells.conditions(method, target, (self.value,), self.edit_of, {self.value: record})
        cell = f"cells/measure/{method}/{self.value}@{target}"
        facts = self.cells.store.read_json(f"{cell}.json")
        with timed("positive control"):
            control = steering_control(self.cells, self.evidence, self.value)
        measured = self._measured(method, cell)
        edit = self.edit_of(method, self.value).with_dose(facts["dose"] or 0.0)
        cost = self._cost(cell.replace("measure", "cost", 1), edit)
        config = self.cells.config
        best = next((row for row in record["table"] if row["dose"] == facts["dose"]), None)
        counts = self.pairs.for_value(self.value).df["split"].value_counts()
        neurons = self.evidence.neurons[self.value]
        costs = {key: estimate.to_json() for key, estimate in cost.items()}
        return SteeringResult(
            value=self.value,
            edit=edit,
            method=method,
            status=facts["status"],
            target=target,
            dose=facts["dose"],
            validation_gain=None if best is None else float(best["gain"]),
            gain=measured.gains[self.value],
            leakage=measured.leakages[self.value],
            control=control,
            effects=measured.table().drop(columns=["method"]),
            cost=cost,
            invalid=facts["invalid"],
            invalid_unedited=self.cells.base["invalid"],
            texts_checked=facts["n_texts"],
            curve=pd.DataFrame(record["table"]),
            judge=measured.responses.judge,
            unit=measured.responses.unit,
            neurons=neurons,
            settings={
                **{key: getattr(config, key) for key in ("selector", "k", "scope", "gate", "chat", "dtype", "seed")},
                # only where it differs from the default: results saved before stay the same
                **({"matmul": config.matmul} if config.matmul != "float32" else {}),
                "selection": dict(config.selection),
                "pooling": config.pooling,
                "pairs": self.pairs.name,
                "prompt_hash": self.pairs.hash,
                "rows": {str(split): int(n) for split, n in counts.items()},
                **({"own_words": to_json(self.pairs.provenance)} if self.pairs.provenance else {}),
                "versions": versions(),
            },
            advice=advice(
                facts["status"], target, record, self.value, neurons, int(counts.get("train", 0)), config.selector
            ),
            model=self.cells.model,
            name=name,
            capability=tuple(cost_rows(self.cells.base, facts, costs)),
            texts=self._texts(method, target, edit),
        )

    def _texts(self, method: str, target: float, edit: Edit) -> tuple[SteeredTexts, ...]:
        """Continuations of the first test prompts of the concept, for the card."""
        prompts = [str(text) for text in self.cells.scorer.prompts["test"]["text"].drop_duplicates()[:TEXTS]]
        unedited: tuple[str, str, None, None] = ("unedited", "", None, None)
        table = self.cells.example_texts([unedited, (method, self.value, target, edit)], prompts)
        texts = [table[table["method"] == name]["text"] for name in ("unedited", method)]
        return tuple(
            SteeredTexts(prompt, unedited_text, edited_text, self.value)
            for prompt, unedited_text, edited_text in zip(prompts, *texts, strict=True)
        )

    def _cost(self, name: str, edit: Edit) -> dict[str, Estimate]:
        store = self.cells.store
        if not store.has(f"{name}.json"):
            cost = cost_table(self.cells.model, edit, self.cells.cost_meter.texts, seed=self.cells.config.seed)
            store.write_json(f"{name}.json", {key: estimate.to_json() for key, estimate in cost.items()})
        return {key: Estimate(**fields) for key, fields in store.read_json(f"{name}.json").items()}

    def _measured(self, method: str, cell: str) -> LeakageResult:
        about = self.cells.scorer.about()
        cells = {self.value: cell}
        responses = responses_of(self.cells.store, method, cells, judge=about["judge"], unit=about["unit"])
        assert responses is not None
        net = responses_of(self.cells.store, method, cells, "net")
        seed, draws = self.cells.config.seed, self.cells.profile.n_boot
        return measure(responses, net=net, seed=seed, n_boot=draws)


def _best_gain(record: Mapping[str, Any]) -> float:
    return max((row["gain"] for row in record["table"] if row["admissible"]), default=float("-inf"))
