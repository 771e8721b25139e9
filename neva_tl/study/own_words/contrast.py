"""Which answers to keep, how well a judge tells the roles' answers apart, and the pairs of the answers kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from neva_tl.core.statistics import cluster_bootstrap
from neva_tl.evaluation.measures.estimate import Estimate

#: Source of the pairs in a contrast set.
SOURCE = "own words"
#: Bootstrap draws of an AUROC.
DRAWS = 1000


def above_and_below(scores: Float[np.ndarray, " n"], plus: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Return which answers to keep: for-answers above the median of both roles, against-answers below it.

    A score at the median counts only where no score lies beyond it, as with a judge that gives many texts the same lowest
    score (ours).

    Args:
        scores: Score of each answer, without NaN.
        plus: Whether the answer was given under a role for the value.
    """
    if not len(scores) or scores.min() == scores.max():
        return np.zeros(len(scores), dtype=bool)
    median = np.median(scores)
    high = (scores > median) | ((scores == median) & (median == scores.max()))
    low = (scores < median) | ((scores == median) & (median == scores.min()))
    return np.where(plus, high, low)


def auroc(scores: Float[np.ndarray, " n"], plus: Bool[np.ndarray, " n"]) -> float:
    """Compute the share of (for, against) pairs of answers that the scores rank correctly; a tie counts half.

    Args:
        scores: Score of each answer, without NaN.
        plus: See `above_and_below`.

    Returns:
        The share; NaN with answers of one role only.
    """
    n_plus, n_minus = int(plus.sum()), int((~plus).sum())
    if not (n_plus and n_minus):
        return float("nan")
    return float((rankdata(scores)[plus].sum() - n_plus * (n_plus + 1) / 2) / (n_plus * n_minus))


def separation(
    scores: Float[np.ndarray, " n"], plus: Bool[np.ndarray, " n"], questions: np.ndarray, seed: int = 0
) -> Estimate:
    """Compute the AUROC between the roles' answers before the filter, on questions with answers of both roles.

    Args:
        scores: Score of each answer, without NaN.
        plus: See `above_and_below`.
        questions: Question of each answer, the unit of resampling.
        seed: Seed of the bootstrap.

    Returns:
        Estimate with a 95 % interval (questions resampled) and the number of questions; undefined below two questions.
    """
    both = np.isin(questions, list(set(questions[plus]) & set(questions[~plus])))
    n = len(set(questions[both]))
    if n < 2:
        return Estimate(None, None, None, n)
    rows = np.column_stack([scores[both], plus[both].astype(float)])
    rng = np.random.default_rng(seed)
    result = cluster_bootstrap(rows, questions[both], lambda x: auroc(x[:, 0], x[:, 1] > 0), n=DRAWS, rng=rng)
    return Estimate(result.est, result.lo, result.hi, n)


def repeated(answers: pd.DataFrame) -> Bool[np.ndarray, " n"]:
    """Return which answers repeat an earlier one to the same question under the same role.

    Args:
        answers: Table with `value`, `pole`, `question`, `answer`.
    """
    return np.asarray(answers.duplicated(["value", "pole", "question", "answer"]), dtype=bool)


def pair_rows(answers: pd.DataFrame, system: str | None) -> list[dict[str, Any]]:
    """Arrange the answers kept as pairs: of each question, the strongest for-answer with the strongest against-answer.

    The second strongest form the next pair, and so on; answers without a partner are dropped.

    Args:
        answers: Answers kept: `value`, `topic`, `split`, `kind`, `pole`, `question`, `answer`, `score`.
        system: System's turn before the question; None for the chat template's own.

    Returns:
        Rows of a contrast set, the answer as span.
    """
    rows = []
    for (value, topic), group in answers.groupby(["value", "topic"], sort=False):
        plus = group[group["pole"] == "+"].sort_values("score", ascending=False, kind="stable")
        minus = group[group["pole"] == "-"].sort_values("score", kind="stable")
        for number, pair in enumerate(zip(plus.to_dict("records"), minus.to_dict("records"), strict=False)):
            rows += [_row(row, f"{value}/{topic}/{number}", system) for row in pair]
    return rows


def single_rows(answers: pd.DataFrame, system: str | None) -> list[dict[str, Any]]:
    """Arrange the answers kept without pairs: also those whose question keeps no answer of the other pole.

    Args:
        answers: See `pair_rows`.
        system: See `pair_rows`.

    Returns:
        Rows of an unpaired contrast set, the answer as span.
    """
    return [_row(row, None, system) for row in answers.to_dict("records")]


def _row(row: Mapping[Any, Any], pair_id: str | None, system: str | None) -> dict[str, Any]:
    text = f"{row['question']} {row['answer']}"
    return {
        "value": row["value"],
        "pair_id": pair_id,
        "pole": row["pole"],
        "text": text,
        "answer_start": len(row["question"]) + 1,
        "answer_end": len(text),
        "cluster": row["topic"],
        "split": row["split"],
        "source": SOURCE,
        "form": row["kind"],
        **({} if system is None else {"system": system}),
    }
