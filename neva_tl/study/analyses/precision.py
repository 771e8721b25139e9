"""Number formats: neurons, effects and costs of one model in float32, with bfloat16 products, and in bfloat16.

Each format collects, selects and edits on its own; the dose is that of float32. The judge's unit is float32's too, so that
gains are comparable. An edit is measured twice: with the format's own neurons (gain and KL, as a study in that format would
report them), and with the neurons and statistics of float32 (the same edit, whose D matrix then differs by rounding alone).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl import models, prompts, selection
from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.core.messages import say
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.statistics import overlap
from neva_tl.core.theories import TheorySpec
from neva_tl.editing import Edit
from neva_tl.evaluation.conditions.capability import neutral_table
from neva_tl.evaluation.conditions.leakage import assemble
from neva_tl.evaluation.judges.base import ItemScores
from neva_tl.evaluation.measures import formulas
from neva_tl.evaluation.measures.estimate import interval
from neva_tl.evaluation.measures.headline import draw
from neva_tl.methods import Evidence, build
from neva_tl.selection.resample import clusters_of, rows_of, subset_stats
from neva_tl.study.run import stages
from neva_tl.study.run.cell_runner import CellRunner
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.cost_meter import CostMeter
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.scorers import from_frame, to_frame

#: Name -> (dtype, matmul); the first one is the reference.
FORMATS: dict[str, tuple[str, str]] = {
    "float32": ("float32", "float32"),
    "matmul-bf16": ("float32", "bf16"),
    "bfloat16": ("bfloat16", "float32"),
}
REFERENCE = "float32"
#: Name of the row over all values.
ALL = "all"
#: Resamples of the prompts on which float32 selects again.
RESAMPLES = 4


@dataclass(frozen=True)
class PrecisionConfig:
    """Settings of a comparison of number formats.

    Attributes:
        values: Steered and measured values; empty for all of the prompts.
        prompts: Argument of `prompts.load`.
        method: Registered name of the edit.
        target: Gain at which float32 matches the dose.
        dose: A fixed dose without a search; None searches.
        k: Neurons per value, the best by effect size.
        rows: Training pairs of each value.
        validation: Validation items of each value.
        items: Test items of each value.
        neutral: Neutral texts for the KL.
        n_boot: Bootstrap draws.
        seed: Seed of resamples and intervals.
        theory: Theory of the values; None takes the one that the prompts imply.
    """

    values: tuple[str, ...] = ()
    prompts: str = "schwartz"
    method: str = "neva_shift"
    target: float = 0.4
    dose: float | None = None
    k: int = 200
    rows: int = 40
    validation: int = 12
    items: int = 24
    neutral: int = 20
    n_boot: int = 1000
    seed: int = 0
    theory: TheorySpec | None = None

    def study(self, model: str, form: str, values: Sequence[str]) -> StudyConfig:
        """Return the study in one number format.

        Args:
            model: Name of the model.
            form: Name in `FORMATS`.
            values: Steered values.
        """
        dtype, matmul = FORMATS[form]
        overrides = {
            "rows_per_value": self.rows,
            "validation": self.validation,
            "test": self.items,
            "targets": (self.target,),
            "neutral": self.neutral,
            "n_boot": self.n_boot,
        }
        return StudyConfig(
            model=model,
            prompts=self.prompts,
            judge="logprob",
            values=tuple(values),
            methods=(self.method,),
            selector="effect_size",
            k=self.k,
            seed=self.seed,
            dtype=dtype,
            matmul=matmul,
            overrides=overrides,
            theory=self.theory,
        ).resolved()


@dataclass(frozen=True, eq=False)
class _Selection:
    """Statistics and neurons of one format."""

    stats: ActivationStats
    neurons: Mapping[str, NeuronSet]


@dataclass(eq=False)
class _Format:
    """One number format: its model, its selection and its measured cells."""

    cells: CellRunner
    selection: _Selection
    seconds: Mapping[str, float | None]

    @cached_property
    def cost_meter(self) -> CostMeter:
        return CostMeter(self.cells.model, self.cells.config, self.cells.profile)

    def edit(self, source: _Selection, value: str, dose: float) -> Edit:
        """Return the edit with the selection of a format, on this format's model."""
        config = self.cells.config
        chat = config.chat is not False and models.info(self.cells.model).chat
        evidence = Evidence(
            self.cells.model, source.stats, source.neurons, config.token_scope(), chat=chat, seed=config.seed
        )
        return build(config.methods[0], evidence, value).with_dose(dose)

    def scores(self, name: str, edits: Sequence[Edit]) -> ItemScores:
        """Return the scores of the test items under edits, stored under a name."""
        file_name, store = f"precision/{name}", self.cells.store
        if not store.has(f"{file_name}.parquet"):
            store.write_table(
                file_name, to_frame(self.cells.scorer.observe(edits, "test", self.cells.config.values)), csv=False
            )
        scores = from_frame(store.read_table(file_name), "score", shared=False)
        assert scores is not None
        return scores

    def kl(self, name: str, edits: Sequence[Edit]) -> pd.DataFrame:
        """Return the KL of each neutral text under edits, stored under a name."""
        file_name, store = f"precision/{name}.kl", self.cells.store
        if not store.has(f"{file_name}.parquet"):
            store.write_table(
                file_name, neutral_table(self.cells.model, tuple(edits), self.cost_meter.texts), csv=False
            )
        return store.read_table(file_name)


@dataclass(frozen=True, eq=False)
class _Measured:
    """Measurements of one format: draws with the data as row 0.

    Attributes:
        neurons: Value -> its neurons.
        same: D under the edits of float32, `[b, i, j]`.
        gain: Gains under the format's own edits, `[b, i]`.
        kl: KL under the format's own edits, `[b, i]`.
        n: Test items.
        seconds: Wall and processor seconds of collecting.
    """

    neurons: Mapping[str, set[tuple[int, int]]]
    same: Float[np.ndarray, "b i j"]
    gain: Float[np.ndarray, "b i"]
    kl: Float[np.ndarray, "b i"]
    n: int
    seconds: Mapping[str, float | None]


def compare_precision(
    model: str, out: str | Path, config: PrecisionConfig | None = None, *, progress: bool = False
) -> pd.DataFrame:
    """Measure one model in the three number formats.

    Cells are stored in the folder, one subfolder per format, and a killed run resumes.

    Args:
        model: A name for `neva_tl.load`; one model at a time is in memory.
        out: The folder.
        config: Values, prompts and budget.
        progress: Show bars on stderr.

    Returns:
        A row per format and value, and one per format over all values (`all`): seconds of collecting; `overlap` of the
        selected neurons with float32's, by chance (`overlap_chance`) and of float32 with itself on resampled prompts
        (`overlap_resampled`); `d_max`, `d_rms` (differences of D from float32's under the same edit) and `d_noise` (median
        half width of float32's intervals); `gain` and `kl` with ends and with their paired differences from float32;
        `within_noise` (see `is_within_noise`).

    Raises:
        InputError: A requested value is not in the prompts, or a folder belongs to another study.
        WorkError: No neuron was selected for any value.
    """
    settings = config or PrecisionConfig()
    pairs = prompts.load(settings.prompts, theory=settings.theory)
    values = pairs.theory.in_order(settings.values or pairs.values)
    for name in values:
        if name not in pairs.values:
            raise InputError(f"{settings.prompts} has no prompts for {name}: it covers {', '.join(pairs.values)}")
    pairs = pairs.for_value(*values)
    for split, most in (("train", settings.rows), ("validation", settings.validation), ("test", settings.items)):
        pairs = stages.limit_rows(pairs, most, split)
    reference: _Selection | None = None
    unit: Mapping[str, Any] | None = None
    doses: dict[str, float] = {}
    measured: dict[str, _Measured] = {}
    resampled: dict[str, float] = {}
    for name in FORMATS:
        say(f"measuring in {name}", progress)
        current = _open(settings.study(model, name, values), Path(out) / name, pairs, unit, progress)
        if reference is None:
            reference, unit = current.selection, current.cells.store.read_json("cells/unit.json")
            doses = _doses(current, values, settings)
            resampled = _resampled(current, values, settings)
        measured[name] = _measure(current, reference, values, doses, settings)
        del current  # one model at a time is in memory
    assert reference is not None
    return _table(measured, values, resampled, reference.stats.n_layers * reference.stats.d_mlp)


def _open(
    study: StudyConfig,
    folder: Path,
    pairs: prompts.ContrastSet,
    unit: Mapping[str, Any] | None,
    progress: bool,
) -> _Format:
    """Load the model in one format, collect and select; results that the folder has are read instead."""
    model = study.load_model()
    about = stages.manifest(study, model, pairs, ["precision"])
    store = RunFolder.open(folder, about)
    if not store.has("manifest.json"):
        store.write_json("manifest.json", about)
    profile = study.spending()
    # the seconds of a collection that was interrupted are unknown
    fresh = not store.has("stats/stats.json") and not store.path("stats/state").exists()
    if fresh:
        models.packable(model)  # a trial of a few tokens, once per model
    wall, processor = time.monotonic(), time.process_time()
    stats = stages.collected(store, model, pairs, study, progress)
    if not store.has("precision/seconds.json"):
        spent = {"wall": time.monotonic() - wall, "processor": time.process_time() - processor}
        store.write_json("precision/seconds.json", spent if fresh else {"wall": None, "processor": None})
    neurons = stages.selected(store, model, stats, study, progress)
    if unit is not None and not store.has("cells/unit.json"):
        store.write_json("cells/unit.json", dict(unit))
    scorer = stages.make_scorer(store, model, pairs, study, profile)
    cells = CellRunner(store, model, scorer, study, profile)
    return _Format(cells, _Selection(stats, neurons), store.read_json("precision/seconds.json"))


def _doses(current: _Format, values: Sequence[str], config: PrecisionConfig) -> dict[str, float]:
    """Return the doses of all formats: fixed, or matched in float32 on validation items."""
    if config.dose is not None:
        return dict.fromkeys(values, config.dose)
    records = current.cells.calibrations(
        config.method, values, lambda _method, value: current.edit(current.selection, value, 0.0)
    )
    doses = {}
    for value, record in records.items():
        dose = record["doses"][str(config.target)]
        # a target out of reach takes the admissible dose that gained most
        dose = record["best"] if dose is None else dose
        doses[value] = 0.0 if dose is None else float(dose)
    return doses


def _resampled(current: _Format, values: Sequence[str], config: PrecisionConfig) -> dict[str, float]:
    """Return the share of float32's neurons that float32 selects again on prompts drawn anew, by cluster with replacement."""
    store, reference = current.cells.store, current.selection
    if not store.has("precision/resampled.json"):
        clusters = clusters_of(reference.stats)
        generator = np.random.default_rng(config.seed)
        shares: dict[str, list[float]] = {value: [] for value in values}
        for _ in range(RESAMPLES):
            rows = np.concatenate([rows_of(c, generator.integers(0, len(c), len(c))) for c in clusters.values()])
            stats = subset_stats(reference.stats, rows)
            for value in values:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message=".*fewer than the k")
                    again = selection.select(stats, value, method="effect_size", k=config.k, seed=config.seed)
                before = _pairs(reference.neurons[value])
                shares[value].append(len(_pairs(again) & before) / max(len(before), 1))
        store.write_json("precision/resampled.json", {value: float(np.mean(x)) for value, x in shares.items()})
    return dict(store.read_json("precision/resampled.json"))


def _pairs(neurons: NeuronSet) -> set[tuple[int, int]]:
    return set(zip(neurons.df["layer"], neurons.df["neuron"], strict=True))


def _measure(
    current: _Format, reference: _Selection, values: Sequence[str], doses: Mapping[str, float], config: PrecisionConfig
) -> _Measured:
    """Score the edits of float32 and the format's own, and run the neutral texts."""
    base = current.scores("base", ())
    scores: dict[str, dict[str, ItemScores]] = {}
    tables = []
    with warnings.catch_warnings():
        # the neurons of float32 in another format of the same weights: that is the point here
        warnings.filterwarnings("ignore", message=".*differ by rounding")
        for kind, source in (("own", current.selection), ("same", reference)):
            scores[kind] = {}
            for value in values:
                edit = current.edit(source, value, doses[value])
                scores[kind][value] = current.scores(f"{kind}/{value}", (edit,))
                if kind == "own":
                    tables.append(current.kl(f"{kind}/{value}", (edit,)))
    about = current.cells.scorer.about()
    drawn = {}
    for kind, edited in scores.items():
        responses = assemble(config.method, base, edited, **about)
        drawn[kind] = draw(responses, seed=config.seed, n_boot=config.n_boot, n_splits=1).d
    return _Measured(
        {value: _pairs(current.selection.neurons[value]) for value in values},
        drawn["same"],
        formulas.gain(drawn["own"], responses.target),
        np.stack([_kl_draws(table, config) for table in tables], axis=-1),
        responses.n,
        current.seconds,
    )


def _kl_draws(table: pd.DataFrame, config: PrecisionConfig) -> Float[np.ndarray, " b"]:
    """Return the KL in nats per token: the data, then resampled texts, the same ones in every format."""
    generator = np.random.default_rng(config.seed)
    n = len(table)
    weights = np.vstack([np.ones(n), generator.multinomial(n, np.full(n, 1 / n), size=config.n_boot)])
    return (weights @ table["kl"].to_numpy(float)) / (weights @ table["tokens"].to_numpy(float))


def is_within_noise(row: Mapping[str, Any]) -> bool:
    """Whether a format's figures differ from float32's by less than float32's own uncertainty.

    Four conditions: the overlap of the neurons is at least that of float32 with itself on resampled prompts; the largest
    difference of D under the same edit is at most the median half width of float32's intervals; the differences of gain and
    KL are at most the half widths of float32's intervals.

    Args:
        row: A row of the table, with `gain_noise` and `kl_noise`, the half widths of float32's intervals.
    """
    return bool(
        row["overlap"] >= row["overlap_resampled"]
        and row["d_max"] <= row["d_noise"]
        and abs(row["gain_difference"]) <= row["gain_noise"]
        and abs(row["kl_difference"]) <= row["kl_noise"]
    )


def _table(
    measured: Mapping[str, _Measured], values: Sequence[str], resampled: Mapping[str, float], total: int
) -> pd.DataFrame:
    """Return one row per format and value, and one over all values."""
    reference = measured[REFERENCE]
    rows = []
    for name, one in measured.items():
        for i, value in enumerate(values):
            rows.append({"format": name, "value": value} | _row(one, reference, [i], [value], resampled, total))
        rows.append(
            {"format": name, "value": ALL} | _row(one, reference, list(range(len(values))), values, resampled, total)
        )
    return pd.DataFrame(rows)


def _row(
    one: _Measured,
    reference: _Measured,
    steered: Sequence[int],
    values: Sequence[str],
    resampled: Mapping[str, float],
    total: int,
) -> dict[str, Any]:
    """Return the figures of some values: means over them, of D the largest difference."""
    shared = [overlap(one.neurons[v], reference.neurons[v], total) for v in values]
    sizes = [max(len(reference.neurons[v]), 1) for v in values]
    d = np.abs(one.same[0, steered] - reference.same[0, steered])
    tails = np.quantile(reference.same[1:, steered], (0.025, 0.975), axis=0)
    row: dict[str, Any] = {
        "seconds": one.seconds["wall"],
        "processor_seconds": one.seconds["processor"],
        "overlap": float(np.mean([x.shared / size for x, size in zip(shared, sizes, strict=True)])),
        "overlap_chance": float(np.mean([x.expected / size for x, size in zip(shared, sizes, strict=True)])),
        "overlap_resampled": float(np.mean([resampled[v] for v in values])),
        "d_max": float(d.max()),
        "d_rms": float(np.sqrt((d**2).mean())),
        "d_noise": float(np.median((tails[1] - tails[0]) / 2)),
    }
    for name in ("gain", "kl"):
        draws, base = (getattr(x, name)[:, steered].mean(axis=1) for x in (one, reference))
        row |= interval(float(draws[0]), draws[1:], one.n).columns(name)
        row |= interval(float(draws[0] - base[0]), draws[1:] - base[1:], one.n).columns(f"{name}_difference")
        lo, hi = np.quantile(base[1:], (0.025, 0.975))
        row[f"{name}_noise"] = float((hi - lo) / 2)
    return row | {"within_noise": is_within_noise(row)}
