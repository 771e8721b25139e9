"""Transfer: neurons and doses from one source of prompts, scored on another.

For each source A the stages of a study collect on A's train split, select neurons, build the edits and calibrate their doses
on A's validation items; every edit is then measured on B's test items by B's log-probability judge, whose unit is frozen
on B's validation items. Where A is B, this is the study's own measure. Gains on different B are in different units (SDs
of B's own items): compare down a column of scored sources, not along a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl import models, prompts
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar, say
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.statistics import overlap
from neva_tl.core.theories import TheorySpec, theory_of
from neva_tl.editing import Edit
from neva_tl.evaluation.conditions.leakage import assemble
from neva_tl.evaluation.judges.base import ItemScores
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.evaluation.measures.result import LeakageResult, measure
from neva_tl.methods import Evidence, build
from neva_tl.models.sources import is_demo
from neva_tl.prompts import ContrastSet
from neva_tl.study.run import stages
from neva_tl.study.run.cell_runner import CellRunner
from neva_tl.study.run.config import Profile, StudyConfig
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.scorers import from_frame, to_frame

#: Name of the row over all steered values.
ALL = "all"


@dataclass(frozen=True)
class TransferConfig:
    """Settings of a transfer study.

    Attributes:
        values: Steered values; empty for all that the sources cover.
        measured: Scored values, on which leakage is read; None takes all that every source covers.
        methods: Registered names of `neva_tl.methods`.
        target: Gain, in A's unit, at which doses are matched on A.
        dose: A fixed dose for all edits, without a search; None searches.
        k: Neurons per value; None takes the selector's own default.
        rows: Pairs (unpaired: rows per pole) of each value in a source's train split.
        validation: The same in its validation split.
        items: The same in its test split.
        refine: Dose evaluations spent on bracketing the target.
        n_boot: Bootstrap draws.
        seed: Seed of intervals and placebos.
        dtype: Number format of the model.
        theory: Theory of the values of every source, under which sources of concepts of their own (persona) are mapped.
    """

    values: tuple[str, ...] = ()
    measured: tuple[str, ...] | None = None
    methods: tuple[str, ...] = ("neva_shift", "caa")
    target: float = 0.4
    dose: float | None = None
    k: int | None = None
    rows: int = 80
    validation: int = 16
    items: int = 24
    refine: int = 1
    n_boot: int = 1000
    seed: int = 0
    dtype: str = "float32"
    theory: TheorySpec | None = "schwartz"

    def study(self, model: str, spec: str, values: Sequence[str]) -> StudyConfig:
        """Return the study of one source with these settings.

        Args:
            model: Name of the model.
            spec: Argument of `prompts.load`.
            values: Steered values.
        """
        overrides: dict[str, Any] = {"rows_per_value": self.rows, "validation": self.validation, "test": self.items}
        overrides |= {"targets": (self.target,), "refine": self.refine, "n_boot": self.n_boot}
        fields: dict[str, Any] = {"k": self.k, "seed": self.seed, "dtype": self.dtype, "overrides": overrides}
        # a source of Schwartz's values keeps the identity that its folder has
        if self.theory != "schwartz" or spec.startswith("persona:"):
            fields["theory"] = self.theory
        return StudyConfig(
            model=model, prompts=spec, judge="logprob", values=tuple(values), methods=self.methods, **fields
        ).resolved()


@dataclass(frozen=True, eq=False)
class TransferResult:
    """Gains and leakage of every source on every source.

    Attributes:
        df: Columns source, scored, method, value (or `all`), dose, status, gain with its ends (95 %, over B's test items; of
            `all`: the mean), leakage, nlr with its ends (null where the gain is within noise of 0), affirmation, n.
        overlap: Neurons selected on two sources, with columns value, a, b, size_a, size_b, shared, expected, jaccard,
            jaccard_expected, p_more.
        judge: Name of the judge.
        unit: Unit of the gains.
    """

    df: pd.DataFrame
    overlap: pd.DataFrame
    judge: str = "logprob"
    unit: str = ""

    def matrix(self, method: str, value: str = ALL) -> pd.DataFrame:
        """Return the gains of one method: sources as rows, scored sources as columns.

        Args:
            method: Name of the method.
            value: A value, or `all`.

        Raises:
            InputError: The method was not measured for the value.
        """
        rows = self.df[(self.df["method"] == method) & (self.df["value"] == value)]
        if not len(rows):
            raise InputError(f"nothing was measured for {method} and {value}")
        order = list(dict.fromkeys(rows["source"]))
        return rows.pivot(index="source", columns="scored", values="gain").loc[order, order]

    def _headline(self) -> pd.DataFrame:
        return self.df[self.df["value"] == ALL].drop(columns=["value", "dose", "status"]).reset_index(drop=True)

    def _repr_html_(self) -> str:
        head = card("Transfer between sources", {"judge": self.judge, "unit": self.unit}, self._headline(), rows=20)
        return head + card("Neurons that two sources share", table=self.overlap, rows=20)

    def show(self) -> Any:
        """Draw the mean gains with intervals, one line per method and pair of sources."""
        from neva_tl.plots import interval_plot

        rows = self._headline()
        label = [f"{m}: {a} on {b}" for m, a, b in zip(rows["method"], rows["source"], rows["scored"], strict=True)]
        table = pd.DataFrame({"label": label, "est": rows["gain"], "lo": rows["gain_lo"], "hi": rows["gain_hi"]})
        return interval_plot(table, title="Mean gain by source", axis=self.unit, guide=0.0)


@dataclass(eq=False)
class _Source:
    """A source: the study's cells on it, and its edits."""

    name: str
    cells: CellRunner
    neurons: Mapping[str, NeuronSet]
    evidence: Evidence
    measured: tuple[str, ...]
    edits: dict[tuple[str, str], Edit] = field(default_factory=dict)
    status: dict[tuple[str, str], str] = field(default_factory=dict)

    def base(self) -> ItemScores:
        """Return the unedited scores of the test items."""
        return self._scores((), "base")

    def scores(self, other: _Source, method: str, value: str) -> ItemScores:
        """Score this source's test items under an edit of another source.

        Args:
            other: The other source.
            method: Registered name.
            value: Steered value.
        """
        return self._scores((other.edits[method, value],), f"{other.name}/{method}/{value}")

    def _scores(self, edits: Sequence[Edit], name: str) -> ItemScores:
        file_name, store = f"transfer/{name}", self.cells.store
        if not store.has(f"{file_name}.parquet"):
            store.write_table(file_name, to_frame(self.cells.scorer.observe(edits, "test", self.measured)), csv=False)
        frame = store.read_table(file_name)
        scores = from_frame(frame, "score", shared=False)
        assert scores is not None
        affirmation = frame[frame["kind"] == "affirmation"]
        extra = {"affirmation": (affirmation["score"].to_numpy(float), affirmation["cluster"].to_numpy(str))}
        return replace(scores, extra=extra)


def transfer(
    model: Any,
    sources: Mapping[str, str],
    out: str | Path,
    config: TransferConfig | None = None,
    *,
    progress: bool = False,
) -> TransferResult:
    """Select on each source and score on all of them.

    Cells are stored in the folder, and a killed run resumes.

    Args:
        model: A name for `neva_tl.load`, or a loaded model.
        sources: Name -> argument of `prompts.load`; two or more.
        out: Folder, with a subfolder for each source.
        config: Values, methods and budget.
        progress: Show bars on stderr.

    Raises:
        InputError: There are fewer than two sources, one of them does not cover a value, the model is a demo model (its
            language has one source only), or a folder belongs to another study.
        WorkError: No neuron was selected for any value.
    """
    settings = config or TransferConfig()
    loaded = model if models.is_model(model) else None
    name = models.info(loaded).name if loaded is not None else str(model)
    if len(sources) < 2:
        raise InputError("a transfer needs two sources or more: one to select on, another to score on")
    if is_demo(name):
        raise InputError("a demo model knows one source of prompts, its own: name a model of natural language")
    sets = {source: prompts.load(spec, theory=settings.theory) for source, spec in sources.items()}
    steered, measured = covered(sets, settings)
    if loaded is None:
        loaded = models.load(name, dtype=settings.dtype)
    root = Path(out)
    opened = []
    for source, spec in sources.items():
        say(f"selecting on {source}", progress)
        pairs = limited(sets[source].for_value(*measured), settings)
        opened.append(
            _open(source, settings.study(name, spec, steered), root / source, loaded, pairs, measured, progress)
        )
    common = [v for v in steered if all(len(one.neurons[v]) for one in opened)]
    if not common:
        raise InputError(f"no value of {', '.join(steered)} has neurons on every source: more rows may show some")
    for one in opened:
        _set_doses(one, common, settings)
    rows = []
    jobs = [(a, b, method) for a in opened for b in opened for method in settings.methods]
    for a, b, method in progress_bar(jobs, desc="transfer", unit="cell", progress=progress):
        rows += _rows(a, b, method, common, settings)
    about = opened[0].cells.scorer.about()
    total = models.info(loaded).n_layers * models.info(loaded).d_mlp
    return TransferResult(pd.DataFrame(rows), shared_neurons(opened, common, total), about["judge"], about["unit"])


def covered(sets: Mapping[str, ContrastSet], config: TransferConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the steered and the measured values, in the order of their theory.

    Args:
        sets: Source -> its contrast set.
        config: Settings; steered values are always measured.

    Raises:
        InputError: A requested value is not in every source.
    """
    theory = theory_of([name for pairs in sets.values() for name in pairs.theory.names])
    common = [name for name in theory.names if all(name in pairs.values for pairs in sets.values())]
    # the whole theory means all values that the sources cover
    full = not config.values or set(config.values) == set(theory.names)
    steered = common if full else list(theory.in_order(config.values))
    measured = common if config.measured is None else theory.in_order((*config.measured, *steered))
    for name in (*steered, *measured):
        if name not in common:
            lacking = next(source for source, pairs in sets.items() if name not in pairs.values)
            raise InputError(f"{lacking} has no prompts for {name}: all sources cover {', '.join(common) or 'none'}")
    if not steered:
        raise InputError("the sources have no value in common")
    return tuple(steered), tuple(measured)


def limited(pairs: ContrastSet, config: TransferConfig) -> ContrastSet:
    """Limit each split to the number of rows in the settings, by hash rank.

    Args:
        pairs: The contrast set.
        config: Settings.
    """
    for split, most in (("train", config.rows), ("validation", config.validation), ("test", config.items)):
        pairs = stages.limit_rows(pairs, most, split)
    return pairs


def _open(
    name: str,
    study: StudyConfig,
    folder: Path,
    model: models.Model,
    pairs: ContrastSet,
    measured: tuple[str, ...],
    progress: bool,
) -> _Source:
    """Collect, select and freeze the judge's unit on one source.

    Results that its folder has are read instead.
    """
    about = stages.manifest(study, model, pairs, ["transfer"])
    store = RunFolder.open(folder, about)
    if not store.has("manifest.json"):
        store.write_json("manifest.json", about)
    profile: Profile = study.spending()
    stats = stages.collected(store, model, pairs, study, progress)
    neurons = stages.selected(store, model, stats, study, progress)
    scorer = stages.make_scorer(store, model, pairs, study, profile)
    chat = study.chat is not False and models.info(model).chat
    evidence = Evidence(model, stats, neurons, study.token_scope(), chat=chat, seed=study.seed)
    return _Source(name, CellRunner(store, model, scorer, study, profile), neurons, evidence, measured)


def _set_doses(source: _Source, values: Sequence[str], config: TransferConfig) -> None:
    """Give every edit of a source the dose of its validation items, or the fixed dose."""

    def edit_of(method: str, value: str) -> Edit:
        return build(method, source.evidence, value)

    for method in config.methods:
        calibrations = source.cells.calibrations(method, values, edit_of) if config.dose is None else {}
        for value in values:
            dose, status = config.dose, "fixed"
            if config.dose is None:
                dose = calibrations[value]["doses"][str(source.cells.profile.targets[0])]
                status = "unreached" if dose is None else "reached"
                # a target out of reach takes the admissible dose that gained most, with status `unreached`
                dose = calibrations[value]["best"] if dose is None else dose
            source.edits[method, value] = edit_of(method, value).with_dose(0.0 if dose is None else dose)
            source.status[method, value] = status


def _rows(a: _Source, b: _Source, method: str, values: Sequence[str], config: TransferConfig) -> list[dict[str, Any]]:
    """Score the edits of source a on source b: one row per value, and one for all."""
    base = b.base()
    edited = {value: b.scores(a, method, value) for value in values}
    about = b.cells.scorer.about()
    responses = assemble(method, base, edited, **about)
    head = {"source": a.name, "scored": b.name, "method": method}
    rows = []
    for value in values:
        result = _measured(responses.select([value]), config)
        dose_columns = {"dose": a.edits[method, value].dose, "status": a.status[method, value]}
        change = edited[value].extra["affirmation"][0].mean() - base.extra["affirmation"][0].mean()
        n = len(base.scores[base.values.index(value)])
        rows.append(head | {"value": value} | dose_columns | _numbers(result) | {"affirmation": float(change), "n": n})
    together = {"value": ALL, "dose": None, "status": ""}
    mean = float(pd.Series([row["affirmation"] for row in rows]).mean())
    return [*rows, head | together | _numbers(_measured(responses, config)) | {"affirmation": mean, "n": responses.n}]


def _measured(responses: Responses, config: TransferConfig) -> LeakageResult:
    return measure(responses, n_boot=config.n_boot, n_permutations=1, seed=config.seed)


def _numbers(result: LeakageResult) -> dict[str, float | None]:
    gain, nlr = result.gain, result.nlr
    out = {"gain": gain.est, "gain_lo": gain.lo, "gain_hi": gain.hi, "leakage": result.leakage.est}
    return out | {"nlr": nlr.est, "nlr_lo": nlr.lo, "nlr_hi": nlr.hi}


def shared_neurons(sources: Sequence[_Source], values: Sequence[str], total: int) -> pd.DataFrame:
    """Count the neurons that two sources share, and compare with chance.

    Args:
        sources: Sources with their neurons.
        values: Values.
        total: Number of neurons of the model.

    Returns:
        One row per value and pair of sources (see `statistics.overlap`).
    """
    rows = []
    for value in values:
        sets = {
            s.name: set(zip(s.neurons[value].df["layer"], s.neurons[value].df["neuron"], strict=True)) for s in sources
        }
        for a, b in combinations(sets, 2):
            shared = overlap(sets[a], sets[b], total)
            row = {
                "value": value,
                "a": a,
                "b": b,
                "size_a": shared.size_a,
                "size_b": shared.size_b,
                "shared": shared.shared,
            }
            row |= {"expected": shared.expected, "jaccard": shared.jaccard, "jaccard_expected": shared.expected_jaccard}
            rows.append(row | {"p_more": shared.p_more})
    return pd.DataFrame(rows)
