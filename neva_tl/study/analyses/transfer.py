"""Transfer: neurons and doses chosen on one source of prompts, scored on another, and back.

For each source A the study's own pieces collect on A's train split, select neurons, build the edits and find their doses
on A's validation items; every edit is then measured on B's test items by B's log-probability judge, whose unit is frozen
on B's validation items. Where A is B, this is the study's own measure. Gains on different B are in different units (SDs
of B's own items): compare down a column of scored sources, not along a row.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from neva_tl import models, prompts
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.statistics import overlap
from neva_tl.core.values import VALUES, in_circle_order
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

#: Row of the table that holds all steered values together.
ALL = "all"


@dataclass(frozen=True)
class TransferConfig:
    """Settings of a transfer study.

    Attributes:
        values: Steered. measured: scored (leakage is read on them); None takes all that every source covers.
        methods: Registry names of `neva_tl.methods`.
        target: Gain, in A's unit, at which doses are chosen on A. dose: a fixed dose instead, for all edits (no search).
        k: Neurons a value; None takes the selector's own default.
        rows, validation, items: Pairs (unpaired: rows per pole) of each value in a source's train, validation and test split.
        refine: Dose evaluations spent on bracketing the target.
        n_boot, seed: Of intervals and placebos. dtype: of the model.
    """

    values: tuple[str, ...] = VALUES
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

    def study(self, model: str, spec: str, values: Sequence[str]) -> StudyConfig:
        """The study of one source that these settings make."""
        overrides: dict[str, Any] = {"rows_per_value": self.rows, "validation": self.validation, "test": self.items}
        overrides |= {"targets": (self.target,), "refine": self.refine, "n_boot": self.n_boot}
        fields: dict[str, Any] = {"k": self.k, "seed": self.seed, "dtype": self.dtype, "overrides": overrides}
        return StudyConfig(
            model=model, prompts=spec, judge="logprob", values=tuple(values), methods=self.methods, **fields
        ).resolved()


@dataclass(frozen=True, eq=False)
class TransferResult:
    """Gains and leakage of every source on every source.

    Attributes:
        df: Source, scored, method, value (or `all`), dose, status, gain with its ends (95 %, over B's test items; of `all`:
            the mean), leakage, nlr with its ends (null where the gain is within noise of 0), affirmation, n.
        overlap: Value, a, b, size_a, size_b, shared, expected, jaccard, jaccard_expected, p_more: the neurons selected on
            two sources.
        judge, unit: Of the gains.
    """

    df: pd.DataFrame
    overlap: pd.DataFrame
    judge: str = "logprob"
    unit: str = ""

    def matrix(self, method: str, value: str = ALL) -> pd.DataFrame:
        """Gain of one method: sources down, scored sources across.

        Raises:
            InputError: It was not measured.
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
        """Mean gains with intervals, one line per method, source and scored source, as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        rows = self._headline()
        label = [f"{m}: {a} on {b}" for m, a, b in zip(rows["method"], rows["source"], rows["scored"], strict=True)]
        table = pd.DataFrame({"label": label, "est": rows["gain"], "lo": rows["gain_lo"], "hi": rows["gain_hi"]})
        return interval_plot(table, title="Mean gain by source", axis=self.unit, guide=0.0)


@dataclass(eq=False)
class _Source:
    """One source: the study's cells on it, and the edits made from it."""

    name: str
    cells: CellRunner
    neurons: Mapping[str, NeuronSet]
    evidence: Evidence
    measured: tuple[str, ...]
    edits: dict[tuple[str, str], Edit] = field(default_factory=dict)
    status: dict[tuple[str, str], str] = field(default_factory=dict)

    def base(self) -> ItemScores:
        """Unedited scores of the test items."""
        return self._scores((), "base")

    def scores(self, other: _Source, method: str, value: str) -> ItemScores:
        """Scores of this source's test items under an edit made on another one."""
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
    """Choose on each source and score on all of them; cells stay in the folder, and a killed run resumes.

    Args:
        model: A name for `neva_tl.load`, or a loaded model.
        sources: Name -> what `prompts.load` takes; two or more.
        out: Folder; each source has a folder of its own in it.
        config: Values, methods and budget.
        progress: Show bars on stderr.

    Raises:
        InputError: Fewer than two sources, a value that one of them does not cover, the demo model (its language has one
            source only), or a folder of another study.
        WorkError: No neuron was selected for any value.
    """
    settings = config or TransferConfig()
    loaded = model if models.is_model(model) else None
    name = models.info(loaded).name if loaded is not None else str(model)
    if len(sources) < 2:
        raise InputError("a transfer needs two sources or more: one to choose on, another to score on")
    if is_demo(name):
        raise InputError("a demo model knows one source of prompts, its own: name a model of natural language")
    sets = {source: prompts.load(spec) for source, spec in sources.items()}
    steered, measured = covered(sets, settings)
    if loaded is None:
        loaded = models.load(name, dtype=settings.dtype)
    root = Path(out)
    opened = []
    for source, spec in sources.items():
        stages.say(f"choosing on {source}", progress)
        pairs = limited(sets[source].for_value(*measured), settings)
        opened.append(
            _open(source, settings.study(name, spec, steered), root / source, loaded, pairs, measured, progress)
        )
    both = [v for v in steered if all(len(one.neurons[v]) for one in opened)]
    if not both:
        raise InputError(f"no value of {', '.join(steered)} has neurons on every source: more rows may show some")
    for one in opened:
        _choose_doses(one, both, settings)
    rows = []
    jobs = [(a, b, method) for a in opened for b in opened for method in settings.methods]
    for a, b, method in tqdm(jobs, desc="transfer", unit="cell", file=sys.stderr, disable=not progress):
        rows += _rows(a, b, method, both, settings)
    about = opened[0].cells.scorer.about()
    total = models.info(loaded).n_layers * models.info(loaded).d_mlp
    return TransferResult(pd.DataFrame(rows), shared_neurons(opened, both, total), about["judge"], about["unit"])


def covered(sets: Mapping[str, ContrastSet], config: TransferConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The values steered and those measured, in circle order; the steered ones are always measured.

    Raises:
        InputError: A requested value is not in every source.
    """
    common = [name for name in VALUES if all(name in pairs.values for pairs in sets.values())]
    # all ten is the default, and means all that there are
    steered = common if set(config.values) == set(VALUES) else list(in_circle_order(config.values))
    measured = common if config.measured is None else in_circle_order((*config.measured, *steered))
    for name in (*steered, *measured):
        if name not in common:
            lacking = next(source for source, pairs in sets.items() if name not in pairs.values)
            raise InputError(f"{lacking} has no prompts for {name}: all sources cover {', '.join(common) or 'none'}")
    if not steered:
        raise InputError("the sources have no value in common")
    return tuple(steered), tuple(measured)


def limited(pairs: ContrastSet, config: TransferConfig) -> ContrastSet:
    """A fixed part of each split (by hash rank): as many rows as the settings spend."""
    for split, most in (("train", config.rows), ("validation", config.validation), ("test", config.items)):
        pairs = stages.limit_rows(pairs, most, split)
    return pairs


def _open(
    name: str,
    study: StudyConfig,
    folder: Path,
    model: Any,
    pairs: ContrastSet,
    measured: tuple[str, ...],
    progress: bool,
) -> _Source:
    """Collect, select and freeze the judge's unit on one source, or read what its folder holds."""
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


def _choose_doses(source: _Source, values: Sequence[str], config: TransferConfig) -> None:
    """Every edit of a source at the dose found on its own validation items (or the fixed one)."""

    def made(method: str, value: str) -> Edit:
        return build(method, source.evidence, value)

    for method in config.methods:
        calibrations = source.cells.calibrations(method, values, made) if config.dose is None else {}
        for value in values:
            dose, status = config.dose, "fixed"
            if config.dose is None:
                dose = calibrations[value]["doses"][str(source.cells.profile.targets[0])]
                status = "unreached" if dose is None else "reached"
                # out of reach: the admissible dose that gained most, and said so
                dose = calibrations[value]["best"] if dose is None else dose
            source.edits[method, value] = made(method, value).with_dose(0.0 if dose is None else dose)
            source.status[method, value] = status


def _rows(a: _Source, b: _Source, method: str, values: Sequence[str], config: TransferConfig) -> list[dict[str, Any]]:
    """Edits chosen on a, scored on b: one row per value, and one for all."""
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
    """Neurons that two sources share for one value, compared with chance (`statistics.overlap`)."""
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
