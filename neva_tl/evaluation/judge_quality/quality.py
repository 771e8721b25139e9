"""Quality of a judge on labelled texts.

The quality card is to be published with the judge's numbers.

Precision, recall, F1 and accuracy need a threshold, which may not transfer from one kind of text to another. AUROC needs none: it
is the share of pairs (a text that expresses the value, one that does not) that the judge ranks correctly; a tie counts half.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.arguments import check_arguments
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.theories.schwartz import SCHWARTZ
from neva_tl.evaluation.judge_quality.agreement import Agreement, Confusion, agreement, confusion, resampled_cells
from neva_tl.evaluation.judges.base import TextJudge, check_scores, reads_texts
from neva_tl.evaluation.labels.decisions import calibration_error, cells, decide, macro, one_baseline, rates
from neva_tl.evaluation.labels.labelled import LabelledTexts, to_values, value_of
from neva_tl.evaluation.measures.estimate import interval

__all__ = ["Agreement", "Confusion", "Judged", "QualityCard", "agreement", "confusion", "judged", "quality"]
#: Measures with intervals, per label and as means over labels.
_RATES = ("precision", "recall", "f1", "accuracy")
_MACRO = ("task_f1", "macro_f1", "accuracy")


@runtime_checkable
class CategoryJudge(TextJudge, Protocol):
    """A text judge that scores finer categories (`names`) and has its own thresholds."""

    names: tuple[str, ...]

    def categories(self, texts: Any, prompts: Any = None) -> Float[np.ndarray, "n c"]:
        """Score each category."""
        ...

    def decide(self, scores: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """Return 1, 0 or NaN for each category score."""
        ...


@dataclass(frozen=True, eq=False)
class Judged:
    """Scores and decisions of a judge on n texts.

    Attributes:
        scores: Scores of the ten values.
        decisions: Decisions on the ten values.
        fine: Scores of the columns of the labels, where these are ValueEval's categories instead of values.
        fine_decisions: Decisions on these columns.
        own_categories: Whether the judge scores these categories itself. Otherwise each category has the score of its value.
        seconds: Duration of scoring.
    """

    scores: Float[np.ndarray, "n v"]
    decisions: Float[np.ndarray, "n v"]
    fine: Float[np.ndarray, "n c"] | None
    fine_decisions: Float[np.ndarray, "n c"] | None
    own_categories: bool
    seconds: float


@dataclass(frozen=True, eq=False)
class QualityCard:
    """Quality of a judge on labelled texts.

    Attributes:
        judge: Name of the judge.
        unit: Unit of its scores.
        labels: Name of the labelled texts.
        n: Number of texts.
        clusters: Number of topics or source items, the units of resampling.
        rule: Rule from scores to decisions.
        own_categories: Whether the judge scores the labels' categories itself. Otherwise each category has the score and the
            decision of its value. None where the labels are the ten values.
        texts_per_second: Speed on this machine after loading (cached answers count as new ones).
        df: One row per level (value, category) and label: n (labelled texts), support (labelled 1), precision, recall, f1,
            accuracy (each with `_lo`, `_hi`: 95 %, clusters resampled), auroc, brier, ece, missing, undecided (shares).
        macro: One row per level and measure: est, lo, hi; worst and best (if every missing score were wrong, or right);
            one_baseline (a judge that decides 1 everywhere).
    """

    judge: str
    unit: str
    labels: str
    n: int
    clusters: int
    rule: str
    own_categories: bool | None
    texts_per_second: float
    df: pd.DataFrame
    macro: pd.DataFrame

    def measure(self, name: str, level: str = "value") -> float:
        """Return one macro estimate; NaN where the card does not have it.

        Args:
            name: Name of the measure.
            level: `value` or `category`.
        """
        rows = self.macro[(self.macro["level"] == level) & (self.macro["measure"] == name)]
        return float(rows["est"].iloc[0]) if len(rows) else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Return plain data in which every number is finite or None."""
        facts = {name: getattr(self, name) for name in _FACTS}
        return {"schema": 1, **facts, "macro": _records(self.macro), "per_label": _records(self.df)}

    def save(self, path: str | Path) -> Path:
        """Write the card as JSON.

        Args:
            path: The file. Its folder is created where it is missing.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        return path

    def parts(self) -> list[str | pd.DataFrame]:
        """Return the sentences and tables of `str(card)`, in order."""
        head = f"{self.judge} on {self.n:,} texts of {self.labels} ({self.clusters:,} clusters); decisions: {self.rule}"
        speed = f"{self.texts_per_second:,.0f} texts per second"
        if self.own_categories is False:
            head += "\nthe judge has no categories: each got the score of its value"
        short = [*(c for c in self.df.columns if not c.endswith(("_lo", "_hi")))]
        return [head, self.macro.round(3), self.df[short].round(3), speed]

    def __str__(self) -> str:
        plain = [one if isinstance(one, str) else one.to_string(index=False, na_rep="–") for one in self.parts()]
        return "\n\n".join(plain)

    def _repr_html_(self) -> str:
        facts = {name: getattr(self, name) for name in _FACTS if name != "judge"}
        return card(f"Quality of {self.judge}", facts, pd.concat([self.macro, self.df]), rows=40)

    def show(self) -> Any:
        """Plot F1 per value with intervals as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        rows = self.df[self.df["level"] == "value"]
        table = rows.rename(columns={"f1": "est", "f1_lo": "lo", "f1_hi": "hi"})[["label", "est", "lo", "hi"]]
        return interval_plot(table, title=f"{self.judge} on {self.labels}", axis="F1")


_FACTS = ("judge", "unit", "labels", "n", "clusters", "rule", "own_categories", "texts_per_second")


def judged(judge: Any, labelled: LabelledTexts, *, threshold: float | None = None) -> Judged:
    """Score labelled texts with a judge, once.

    Args:
        judge: A text judge.
        labelled: The texts. Contexts, where the texts have any, are passed as prompts.
        threshold: Lowest score that decides for a value. None uses the judge's own thresholds where it has them, else .5.

    Raises:
        InputError: The judge does not read texts, or `labelled` is empty.
    """
    if not reads_texts(judge):
        raise InputError(
            f"the judge {judge.name} asks a model and reads no texts: its quality is not measured on texts"
        )
    if not len(labelled):
        raise InputError(f"{labelled.name}: there are no texts to judge")
    texts, prompts = list(labelled.texts), list(labelled.contexts) if any(labelled.contexts) else None
    finer: Any = judge if isinstance(judge, CategoryJudge) else None
    read = finer.categories if finer else judge.score
    read(texts[:1], None if prompts is None else prompts[:1])  # exclude loading on first use from the measured time
    start = time.perf_counter()
    read_scores = read(texts, prompts)
    seconds = time.perf_counter() - start
    names = finer.names if finer else SCHWARTZ.names
    own_rule = finer is not None and threshold is None
    read_decisions = (
        finer.decide(read_scores) if own_rule else decide(read_scores, 0.5 if threshold is None else threshold)
    )
    scores, decisions = to_values(read_scores, names), to_values(read_decisions, names)
    check_scores(scores, len(texts))
    if labelled.names == SCHWARTZ.names:
        return Judged(scores, decisions, None, None, False, seconds)
    if finer is None or not set(names) <= set(labelled.names):
        columns = [SCHWARTZ.index(value_of(name)) for name in labelled.names]
        return Judged(scores, decisions, scores[:, columns], decisions[:, columns], False, seconds)
    fine, fine_decisions = (_columns(x, names, labelled.names) for x in (read_scores, read_decisions))
    return Judged(scores, decisions, fine, fine_decisions, True, seconds)


@check_arguments
def quality(
    judge: Any,
    labelled: LabelledTexts,
    *,
    threshold: float | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    said: Judged | None = None,
) -> QualityCard:
    """Measure a judge on labelled texts, for the ten values and all label categories.

    Args:
        judge: A text judge.
        labelled: The texts, for example one split of `LabelledTexts.load(...)`. A text that is labelled for one value only
            (persona) counts only for that value.
        threshold: Lowest score that decides for a value. None uses the judge's own thresholds where it has them, else .5.
        n_boot: Number of bootstrap draws over clusters.
        seed: Seed of the bootstrap.
        said: Result of `judged` for these texts, where it exists already.

    Raises:
        InputError: The judge does not read texts, or `labelled` is empty.
    """
    scored = judged(judge, labelled, threshold=threshold) if said is None else said
    levels = [("value", SCHWARTZ.names, labelled.to_values().labels, scored.scores, scored.decisions)]
    if scored.fine is not None and scored.fine_decisions is not None:
        levels.append(("category", labelled.names, labelled.labels, scored.fine, scored.fine_decisions))
    rows: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    for level, names, labels, scores, decisions in levels:
        table = cells(decisions, labels)
        draws = resampled_cells(table, labelled.clusters, n_boot=n_boot, seed=seed)
        per_label = _per_label(names, labels, scores, table, draws)
        rows += [{"level": level, **row} for row in per_label]
        means += [{"level": level, **row} for row in _macro(labels, decisions, table, draws)]
        ranked = [row["auroc"] for row in per_label if not np.isnan(row["auroc"])]
        means.append({"level": level, "measure": "auroc", "est": np.mean(ranked) if ranked else np.nan})
    own_rule = isinstance(judge, CategoryJudge) and threshold is None
    rule = "the judge's own thresholds" if own_rule else f"score >= {0.5 if threshold is None else threshold:g}"
    return QualityCard(
        judge.name,
        judge.unit,
        labelled.name,
        len(labelled),
        len(set(labelled.clusters.tolist())),
        rule,
        None if scored.fine is None else scored.own_categories,
        len(labelled) / max(scored.seconds, 1e-9),
        pd.DataFrame(rows),
        pd.DataFrame(means),
    )


def _per_label(
    names: tuple[str, ...], labels: np.ndarray, scores: np.ndarray, table: np.ndarray, draws: np.ndarray
) -> list[dict[str, Any]]:
    from sklearn.metrics import brier_score_loss, roc_auc_score

    point, drawn = rates(table.sum(axis=0)), rates(draws)
    rows = []
    for k, name in enumerate(names):
        labelled = ~np.isnan(labels[:, k])
        scored = labelled & ~np.isnan(scores[:, k])
        y, s = labels[scored, k], scores[scored, k]
        row: dict[str, Any] = {"label": name, "n": int(labelled.sum()), "support": int((labels[:, k] == 1).sum())}
        for measure in _RATES:
            estimate = interval(float(point[measure][k]), drawn[measure][:, k], int(scored.sum()))
            row |= {measure: estimate.est, f"{measure}_lo": estimate.lo, f"{measure}_hi": estimate.hi}
        row["auroc"] = float(roc_auc_score(y, s)) if len(set(y.tolist())) == 2 else np.nan
        row["brier"] = float(brier_score_loss(y, s, pos_label=1)) if len(y) else np.nan
        row["ece"] = calibration_error(s, y)
        row["missing"] = float((labelled & ~scored).sum() / labelled.sum()) if labelled.any() else np.nan
        row["undecided"] = float((s == 0.5).mean()) if len(s) else np.nan
        rows.append({key: np.nan if x is None else x for key, x in row.items()})
    return rows


def _macro(labels: np.ndarray, decisions: np.ndarray, table: np.ndarray, draws: np.ndarray) -> list[dict[str, Any]]:
    """Average over labels.

    A label without any decision (the judge does not score it) is left out of the estimate and counts as missing in the bounds.
    """
    judged_at_all = table.sum(axis=(0, 2)) > 0
    point, drawn = macro(table[:, judged_at_all].sum(axis=0)), macro(draws[:, judged_at_all])
    gaps = np.isnan(decisions) & ~np.isnan(labels)
    wrong, right = (macro(cells(np.where(gaps, x, decisions), labels).sum(axis=0)) for x in (1 - labels, labels))
    baseline = one_baseline(labels)
    rows = []
    for measure in _MACRO:
        estimate = interval(float(point[measure]), drawn[measure], len(labels))
        ends = {"est": estimate.est, "lo": estimate.lo, "hi": estimate.hi}
        row = {key: np.nan if x is None else x for key, x in ends.items()}
        row |= {"worst": float(wrong[measure]), "best": float(right[measure]), "one_baseline": baseline[measure]}
        rows.append({"measure": measure, **row})
    return rows


def _columns(x: np.ndarray, names: tuple[str, ...], requested: tuple[str, ...]) -> np.ndarray:
    """Select columns by name; NaN where a column is missing."""
    out = np.full((len(x), len(requested)), np.nan)
    for k, name in enumerate(requested):
        if name in names:
            out[:, k] = x[:, names.index(name)]
    return out


def _records(df: pd.DataFrame) -> list[dict[str, Any]]:
    return list(json.loads(df.to_json(orient="records", double_precision=15)))
