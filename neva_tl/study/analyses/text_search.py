"""Search for edits that show in the text, on validation prompts only.

Candidates are selections x numbers of neurons x layers x ways to apply the step; each goes up a grid of doses until its texts
break twice in a row. At every dose the model continues the same open validation prompts, a judge of texts scores them, and the
gain is the mean change of its P for the value against the unedited model's texts. A dose is admissible while its invalid rate
stays within .05 of the unedited one and the perplexity of its texts, under the unedited model, within 1.3 times theirs. The
best admissible dose wins; test prompts are not read. Ours.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl import models, prompts
from neva_tl.core.cache import content_key
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.files import to_json
from neva_tl.core.locks import lock_folder
from neva_tl.core.method_records import find_method
from neva_tl.core.theories import SCHWARTZ, TheorySpec
from neva_tl.editing import Edit
from neva_tl.editing.saved import save_edit
from neva_tl.evaluation.judges.base import Judge, reads_texts
from neva_tl.models.sources import is_demo
from neva_tl.prompts import ContrastSet
from neva_tl.selection.write import DEPTH
from neva_tl.study.analyses.edit_measures import CURVE
from neva_tl.study.analyses.text_candidates import Candidate, candidates
from neva_tl.study.analyses.text_cells import TextCells
from neva_tl.study.analyses.text_levels import compare_levels
from neva_tl.study.run import stages
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.run_folder import RunFolder


@dataclass(frozen=True)
class TextSearchConfig:
    """Settings of a search. The levels of each factor are compared with its first.

    Attributes:
        value: The steered value.
        judge: A judge of texts (see `evaluation.judges.load_judge`).
        measured: Other values whose change is leakage; the judge must score them.
        selections: Names in `text_candidates.SELECTIONS`.
        k: Numbers of neurons.
        depths: Ranges of layers, as shares of the depth.
        ways: Names in `text_candidates.WAYS`.
        doses: Doses of edits in contrasts; empty takes the study's grid. Edits in other units take theirs.
        methods: Registered methods that are measured for reference (the role prompt is the positive control).
        n_prompts: Open validation prompts.
        max_new_tokens: Length of a text.
        samples: Texts per prompt; more than one are sampled at temperature 1, one is greedy (except for the exact judge).
        rows_per_value: Cap on training rows of each value and pole (0 = all).
        n_boot: Bootstrap draws.
        seed: Seed of sampling, placebos and intervals.
        dtype: Number format of the model.
        theory: Theory of the values; None takes the one that the prompts imply.
    """

    value: str
    judge: str = "auto"
    measured: tuple[str, ...] = ()
    selections: tuple[str, ...] = ("write", "effect_size")
    k: tuple[int, ...] = (300, 3000)
    depths: tuple[tuple[float, float], ...] = (DEPTH,)
    ways: tuple[str, ...] = ("shift", "first", "fade", "no_repeat")
    doses: tuple[float, ...] = ()
    methods: tuple[str, ...] = ("role",)
    n_prompts: int = 20
    max_new_tokens: int = 60
    samples: int = 1
    rows_per_value: int = 0
    n_boot: int = 1000
    seed: int = 0
    dtype: str = "float32"
    theory: TheorySpec | None = None

    def study(self, model: str, spec: str, pairs: ContrastSet) -> StudyConfig:
        """Return the study whose statistics and judge the search uses.

        Args:
            model: Name of the model.
            spec: Argument of `prompts.load`.
            pairs: The contrast set.

        Raises:
            InputError: The judge reads no texts, or an option is unusable.
        """
        overrides: dict[str, Any] = {"validation": self.n_prompts, "samples": self.samples, "n_boot": self.n_boot}
        overrides |= {"max_new_tokens": self.max_new_tokens, "rows_per_value": self.rows_per_value}
        # the judge of a study on other models than the demo reads no texts
        judge = "wordlist" if self.judge == "auto" and not is_demo(model) else self.judge
        study = StudyConfig(
            model=model,
            prompts=spec,
            judge=judge,
            values=(self.value,),
            methods=self.methods,
            seed=self.seed,
            dtype=self.dtype,
            theory=None if pairs.theory == SCHWARTZ else pairs.theory,
            overrides=overrides,
        ).resolved(pairs)
        if study.kind != "text":
            raise InputError(
                "this search reads texts: name a judge of texts (llm:MODEL, chat:MODEL@URL, wordlist, ...)"
            )
        return study


@dataclass(frozen=True, eq=False)
class TextSearchResult:
    """All candidates and doses, and the best.

    Attributes:
        df: One row per candidate and dose: selection, k, layers, way, neurons, dose, unit, method (measured for reference),
            placebo, gain with its ends (95 %, topics resampled), wrong (share of texts whose P fell, ties half), leakage (mean
            positive change over the measured values), and of each `leakage_VALUE`; repeated (mean share of repeated 3-grams),
            invalid, perplexity, admissible, best.
        levels: One row per level of each factor (see `text_levels.compare_levels`).
        unedited: Figures of the unedited model: P for the value, repeated, invalid, perplexity.
        value: The steered value.
        judge: Name of the judge.
        unit: Unit of the gains.
        edit: The best admissible edit at its dose; None where there is none.
    """

    df: pd.DataFrame
    levels: pd.DataFrame
    unedited: Mapping[str, Any]
    value: str
    judge: str
    unit: str
    edit: Edit | None = field(default=None, repr=False)

    @property
    def best(self) -> dict[str, Any] | None:
        """The row of the best admissible candidate; None where there is none."""
        rows = self.df[self.df["best"]]
        return {str(name): x for name, x in rows.iloc[0].items()} if len(rows) else None

    def _repr_html_(self) -> str:
        facts = {"value": self.value, "judge": self.judge, "unit": self.unit, **self.unedited}
        head = card(
            "Edits that show in the text (validation)", facts, self.df.sort_values("gain", ascending=False), rows=20
        )
        return head + card("What helped", table=self.levels, rows=40)

    def show(self) -> Any:
        """Draw the gain of each candidate's best admissible dose, with intervals (matplotlib)."""
        from neva_tl.plots import interval_plot

        good = self.df[self.df["admissible"]].sort_values("gain", ascending=False).drop_duplicates("candidate")
        table = good.rename(columns={"candidate": "label", "gain": "est", "gain_lo": "lo", "gain_hi": "hi"})
        table = table[["label", "est", "lo", "hi"]].reset_index(drop=True)
        return interval_plot(table, title=f"{self.value}: gain in text", axis=self.unit, guide=0.0)


def search_texts(
    model: Any,
    pairs: ContrastSet | str,
    out: str | Path,
    config: TextSearchConfig,
    *,
    judge: Judge | None = None,
    progress: bool = False,
) -> TextSearchResult:
    """Search the edit towards a value that changes the judged text most, on validation prompts.

    Cells are stored in the folder, and a killed search resumes; candidates can be added later.

    Args:
        model: A name for `neva_tl.load`, or a loaded model.
        pairs: The contrast set, or an argument of `prompts.load`.
        out: Folder of the search; the best edit is saved in its subfolder `best`.
        config: Candidates and budget.
        judge: The judge, where it is loaded already; `config.judge` must be its name.
        progress: Show bars on stderr.

    Raises:
        InputError: A name is unknown, the judge reads no texts, does not score a value or is the edited model itself, the value
            was not collected, or the folder belongs to another search.
        WorkError: The judge gave no score.

    Example:
        >>> from neva_tl.study.analyses.text_search import TextSearchConfig, search_texts
        >>> config = TextSearchConfig("power", k=(100,), ways=("shift",))
        >>> result = search_texts("demo", "demo", "runs/texts", config)  # doctest: +SKIP
        >>> result.best["selection"], result.best["dose"]  # doctest: +SKIP
        ('write', 4.0)
    """
    listed = candidates(config.selections, config.k, config.depths, config.ways)
    for name in config.methods:
        find_method(name)
    loaded = model if models.is_model(model) else None
    name = models.info(loaded).name if loaded is not None else str(model)
    contrast = prompts.load(pairs, theory=config.theory) if isinstance(pairs, str) else pairs
    if judge is not None and not reads_texts(judge):
        raise InputError(f"the judge {judge.name!r} reads no texts")
    study = config.study(name, pairs if isinstance(pairs, str) else pairs.name, contrast)
    contrast = stages.limit_rows(contrast, config.rows_per_value)
    stages.steerable(study, contrast)
    if loaded is None:
        loaded = models.load(name, dtype=config.dtype)
    about = stages.manifest(study, loaded, contrast, sys.argv)
    about["study"] += f"-texts-{content_key(config.value, sorted(config.measured))[:8]}"
    about["search"] = {**asdict(replace(config, theory=None)), "theory": contrast.theory.name}
    with lock_folder(out):
        store = RunFolder.open(out, about)
        store.write_json("manifest.json", about)
        scorer = stages.make_scorer(store, loaded, contrast, study, study.spending(), judge)
        stats = stages.collected(store, loaded, contrast, study, progress)
        gate = stages.relevance_gate(store, loaded, contrast, study)
        evidence = stages.evidence_of(store, loaded, stats, {}, study, gate)
        cells = TextCells(store, loaded, study, scorer, evidence, config.value, config.measured, config.doses, progress)
        edits = cells.edits(listed, config.methods)
        cells.measure(edits)
        return _result(cells, edits)


def _result(cells: TextCells, edits: Mapping[Candidate, Edit]) -> TextSearchResult:
    """Write the tables and the best edit."""
    df = cells.table(edits)
    gains = df["gain"].where(df["admissible"] & ~df["method"] & ~df["placebo"]).to_numpy(dtype=float)
    winner = None if pd.isna(gains).all() else int(pd.Series(gains).argmax())
    df["best"] = [row == winner for row in range(len(df))]
    changes, topics = cells.changes(df["cell"].tolist())
    n_boot, seed = cells.study.spending().n_boot, cells.study.seed
    levels = compare_levels(df[~df["method"]], changes, topics, n_boot=n_boot, seed=seed)
    best = None
    if winner is not None:
        row = df.iloc[winner]
        (candidate,) = [one for one in edits if one.name == row["candidate"]]
        best = edits[candidate].with_dose(float(row["dose"]))
        facts = {name: row[name] for name in ("selection", "layers", "way", "gain", "gain_lo", "gain_hi")}
        about = {"value": cells.value, **facts, "measures": _measures(cells, df, row)}
        save_edit(best, cells.store.path("best"), model=cells.model, about=about)
    cells.store.write_table("tables/text_search", df)
    cells.store.write_table("tables/text_search_levels", levels)
    judge = cells.scorer.about()
    return TextSearchResult(df, levels, cells.unedited(), cells.value, judge["judge"], judge["unit"], best)


def _measures(cells: TextCells, df: pd.DataFrame, row: pd.Series) -> dict[str, Any]:
    """Return what the card of the best edit shows: its validation gain and its curve in the text; nothing of test items."""
    judge = {name: cells.scorer.about()[name] for name in ("judge", "unit")}
    curve = df[df["candidate"] == row["candidate"]].sort_values("dose")[list(CURVE)]
    gain = float(row["gain"])
    return to_json(judge | {"validation_gain": gain, "curves": [judge | {"rows": curve.to_dict("records")}]})
