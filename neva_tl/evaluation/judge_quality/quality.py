"""How good a judge is, measured on labelled texts: the card that belongs beside every number the judge gives.

Decisions (precision, recall, F1, accuracy) need a threshold, which need not carry over from one kind of text to another;
AUROC does not: it is the share of pairs (a text that expresses the value, one that does not) that the judge ranks the
right way round, ties half.
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

from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
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
    """A text judge that scores finer categories (`names`) and decides on them by thresholds of its own."""

    names: tuple[str, ...]

    def categories(self, texts: Any, prompts: Any = None) -> Float[np.ndarray, "n c"]:
        """Score of each category."""
        ...

    def decide(self, scores: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """1, 0 or NaN for each category score."""
        ...


@dataclass(frozen=True, eq=False)
class Judged:
    """What a judge said of n texts.

    Attributes:
        scores, decisions: for the ten values.
        fine, fine_decisions: for the columns of the labels, where these are ValueEval's categories and not values.
        own: whether the judge has those categories; else each got the score of its value.
        seconds: it took.
    """

    scores: Float[np.ndarray, "n 10"]
    decisions: Float[np.ndarray, "n 10"]
    fine: Float[np.ndarray, "n c"] | None
    fine_decisions: Float[np.ndarray, "n c"] | None
    own: bool
    seconds: float


@dataclass(frozen=True, eq=False)
class QualityCard:
    """A judge, measured.

    Attributes:
        judge, unit: of the judge. labels: name of the labelled texts.
        n, clusters: texts, and the topics or source items that were resampled.
        rule: how scores became decisions. own_categories: whether the judge has the labels' categories (None: the labels
            are the ten values); else each category got the score and the decision of its value.
        texts_per_second: on this machine, once loaded (answers kept from an earlier run count as given now).
        df: one row per level (value, category) and label: n (labelled texts), support (labelled 1), precision, recall,
            f1, accuracy (each with `_lo`, `_hi`: 95 %, clusters resampled), auroc, brier, ece, missing, undecided (shares).
        macro: one row per level and measure: est, lo, hi; worst, best: if every missing score had been wrong, or right;
            one_baseline: of a judge that finds everything everywhere.
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
        """One macro estimate; NaN where the card does not have it."""
        found = self.macro[(self.macro["level"] == level) & (self.macro["measure"] == name)]
        return float(found["est"].iloc[0]) if len(found) else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Plain data, every number finite or None."""
        facts = {name: getattr(self, name) for name in _FACTS}
        return {"schema": 1, **facts, "macro": _records(self.macro), "per_label": _records(self.df)}

    def save(self, path: str | Path) -> Path:
        """Write the card as JSON."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        return path

    def __str__(self) -> str:
        head = f"{self.judge} on {self.n:,} texts of {self.labels} ({self.clusters:,} clusters); decisions: {self.rule}"
        speed = f"{self.texts_per_second:,.0f} texts per second"
        if self.own_categories is False:
            head += "\nthe judge has no categories: each got the score of its value"
        short = [*(c for c in self.df.columns if not c.endswith(("_lo", "_hi")))]
        tables = [table.round(3).to_string(index=False, na_rep="–") for table in (self.macro, self.df[short])]
        return "\n\n".join([head, *tables, speed])

    def _repr_html_(self) -> str:
        facts = {name: getattr(self, name) for name in _FACTS if name != "judge"}
        return card(f"Quality of {self.judge}", facts, pd.concat([self.macro, self.df]), rows=40)

    def show(self) -> Any:
        """F1 per value with intervals as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        part = self.df[self.df["level"] == "value"]
        table = part.rename(columns={"f1": "est", "f1_lo": "lo", "f1_hi": "hi"})[["label", "est", "lo", "hi"]]
        return interval_plot(table, title=f"{self.judge} on {self.labels}", axis="F1")


_FACTS = ("judge", "unit", "labels", "n", "clusters", "rule", "own_categories", "texts_per_second")


def judged(judge: Any, labelled: LabelledTexts, *, threshold: float | None = None) -> Judged:
    """Have a judge read labelled texts, once.

    Args:
        judge: a text judge. labelled: the texts; their contexts are given as prompts where there are any.
        threshold: a value is there from this score on; None: the judge's own decisions where it has them, else .5.

    Raises:
        InputError: the judge does not read texts, or there are none.
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
    read(texts[:1], None if prompts is None else prompts[:1])  # what is loaded on first use shall not count as reading
    start = time.perf_counter()
    found = read(texts, prompts)
    seconds = time.perf_counter() - start
    names = finer.names if finer else VALUES
    own_rule = finer is not None and threshold is None
    said = finer.decide(found) if own_rule else decide(found, 0.5 if threshold is None else threshold)
    scores, decisions = to_values(found, names), to_values(said, names)
    check_scores(scores, len(texts))
    if labelled.names == VALUES:
        return Judged(scores, decisions, None, None, False, seconds)
    own = finer is not None and set(names) <= set(labelled.names)
    if not own:
        place = [VALUES.index(value_of(name)) for name in labelled.names]
        return Judged(scores, decisions, scores[:, place], decisions[:, place], False, seconds)
    fine, fine_said = (_columns(x, names, labelled.names) for x in (found, said))
    return Judged(scores, decisions, fine, fine_said, True, seconds)


def quality(
    judge: Any,
    labelled: LabelledTexts,
    *,
    threshold: float | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    said: Judged | None = None,
) -> QualityCard:
    """Measure a judge on labelled texts, for the ten values and for the labels' own categories.

    Args:
        judge: a text judge.
        labelled: say one split of `LabelledTexts.load(...)`. Where a text is labelled for one value alone (persona), it
            counts for that value alone.
        threshold: a value is there from this score on; None: the judge's own decisions where it has them, else .5.
        n_boot, seed: of the bootstrap over clusters.
        said: what `judged` gave for these texts, if they were read before.

    Raises:
        InputError: the judge does not read texts, or there are none.
    """
    said = judged(judge, labelled, threshold=threshold) if said is None else said
    levels = [("value", VALUES, labelled.to_values().labels, said.scores, said.decisions)]
    if said.fine is not None and said.fine_decisions is not None:
        levels.append(("category", labelled.names, labelled.labels, said.fine, said.fine_decisions))
    rows: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    for level, names, labels, scores, decisions in levels:
        table = cells(decisions, labels)
        draws = resampled_cells(table, labelled.clusters, n_boot=n_boot, seed=seed)
        found = _per_label(names, labels, scores, table, draws)
        rows += [{"level": level, **row} for row in found]
        means += [{"level": level, **row} for row in _macro(labels, decisions, table, draws)]
        ranked = [row["auroc"] for row in found if not np.isnan(row["auroc"])]
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
        None if said.fine is None else said.own,
        len(labelled) / max(said.seconds, 1e-9),
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
        asked = ~np.isnan(labels[:, k])
        known = asked & ~np.isnan(scores[:, k])
        y, s = labels[known, k], scores[known, k]
        row: dict[str, Any] = {"label": name, "n": int(asked.sum()), "support": int((labels[:, k] == 1).sum())}
        for measure in _RATES:
            found = interval(float(point[measure][k]), drawn[measure][:, k], int(known.sum()))
            row |= {measure: found.est, f"{measure}_lo": found.lo, f"{measure}_hi": found.hi}
        row["auroc"] = float(roc_auc_score(y, s)) if len(set(y.tolist())) == 2 else np.nan
        row["brier"] = float(brier_score_loss(y, s, pos_label=1)) if len(y) else np.nan
        row["ece"] = calibration_error(s, y)
        row["missing"] = float((asked & ~known).sum() / asked.sum()) if asked.any() else np.nan
        row["undecided"] = float((s == 0.5).mean()) if len(s) else np.nan
        rows.append({key: np.nan if x is None else x for key, x in row.items()})
    return rows


def _macro(labels: np.ndarray, decisions: np.ndarray, table: np.ndarray, draws: np.ndarray) -> list[dict[str, Any]]:
    """Means over labels; a label with no decision at all (the judge does not know it) is left out of the estimate, and
    counts as missing in the bounds."""
    judged_at_all = table.sum(axis=(0, 2)) > 0
    point, drawn = macro(table[:, judged_at_all].sum(axis=0)), macro(draws[:, judged_at_all])
    gaps = np.isnan(decisions) & ~np.isnan(labels)
    wrong, right = (macro(cells(np.where(gaps, x, decisions), labels).sum(axis=0)) for x in (1 - labels, labels))
    baseline = one_baseline(labels)
    rows = []
    for measure in _MACRO:
        found = interval(float(point[measure]), drawn[measure], len(labels))
        ends = {"est": found.est, "lo": found.lo, "hi": found.hi}
        row = {key: np.nan if x is None else x for key, x in ends.items()}
        row |= {"worst": float(wrong[measure]), "best": float(right[measure]), "one_baseline": baseline[measure]}
        rows.append({"measure": measure, **row})
    return rows


def _columns(x: np.ndarray, names: tuple[str, ...], wanted: tuple[str, ...]) -> np.ndarray:
    """Columns by name, NaN where there is none."""
    out = np.full((len(x), len(wanted)), np.nan)
    for k, name in enumerate(wanted):
        if name in names:
            out[:, k] = x[:, names.index(name)]
    return out


def _records(df: pd.DataFrame) -> list[dict[str, Any]]:
    return list(json.loads(df.to_json(orient="records", double_precision=15)))
