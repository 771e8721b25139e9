"""Decisions from scores, and measures of their quality (pure functions on arrays).

A decision is 1 (the text expresses the value), 0, or NaN where the judge gave no score. A label is 1, 0, or NaN where it is
unknown. Pairs with a NaN are ignored.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

#: Number of bins of equal width in the calibration error.
_BINS = 10


def decide(
    scores: Float[np.ndarray, "n c"], thresholds: Float[np.ndarray, " c"] | float = 0.5
) -> Float[np.ndarray, "n c"]:
    """Return 1 where a score reaches its column's threshold, else 0; NaN stays NaN.

    Args:
        scores: Scores, one column per value or category.
        thresholds: Threshold of each column, or of all.
    """
    return np.where(np.isnan(scores), np.nan, (scores >= thresholds).astype(float))


def cells(decisions: Float[np.ndarray, "n c"], labels: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c 4"]:
    """Return the four cells of the table of decision by label, per text and column.

    Each is 0 or 1, in the order: both yes, only the decision yes, only the label yes, both no. The functions below need only
    their sums over texts.

    Args:
        decisions: Decisions of a judge.
        labels: Labels of the same texts.
    """
    defined = ~(np.isnan(decisions) | np.isnan(labels))
    yes, true = decisions == 1, labels == 1
    return (np.stack([yes & true, yes & ~true, ~yes & true, ~yes & ~true], axis=-1) & defined[..., None]).astype(float)


def rates(table: Float[np.ndarray, "*dims 4"]) -> dict[str, Float[np.ndarray, "*dims"]]:
    """Compute precision, recall, F1 and accuracy from summed cells.

    Precision is 0 where no decision is 1 (scikit-learn's `zero_division=0`, also the convention of the shared task). Precision,
    recall and F1 are NaN where no label is 1; accuracy is NaN without labels.

    Args:
        table: Cells (see `cells`) summed over texts.
    """
    tp, fp, fn, tn = np.moveaxis(table, -1, 0)
    positives = tp + fn > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "precision": np.where(positives, np.where(tp + fp > 0, tp / (tp + fp), 0.0), np.nan),
            "recall": np.where(positives, tp / (tp + fn), np.nan),
            "f1": np.where(positives, 2 * tp / (2 * tp + fp + fn), np.nan),
            "accuracy": (tp + tn) / (tp + fp + fn + tn),
        }


def macro(table: Float[np.ndarray, "*dims c 4"]) -> dict[str, Float[np.ndarray, "*dims"]]:
    """Average over columns.

    Columns without a label of 1 count only in the accuracy.

    - `task_f1`: harmonic mean of macro precision and macro recall, the ranking of the shared task ValueEval 2023.
    - `macro_f1`: mean of the columns' F1, as scikit-learn's `average="macro"`.
    - `accuracy`: mean of the columns' accuracies.

    The first two differ, and published figures of one must not be compared with figures of the other.

    Args:
        table: Cells (see `cells`) summed over texts, one row per column of the labels.
    """
    by_column = rates(table)
    precision, recall, f1, accuracy = (_nanmean(by_column[name]) for name in ("precision", "recall", "f1", "accuracy"))
    with np.errstate(invalid="ignore", divide="ignore"):
        both = np.where(precision + recall > 0, 2 * precision * recall / (precision + recall), precision + recall)
    return {"task_f1": both, "macro_f1": f1, "accuracy": accuracy}


def one_baseline(labels: Float[np.ndarray, "n c"]) -> dict[str, float]:
    """Return `macro` of a judge that decides 1 everywhere (the task's 1-baseline).

    Args:
        labels: Labels of the texts.
    """
    return {name: float(x) for name, x in macro(cells(np.ones_like(labels), labels).sum(axis=0)).items()}


def kappa(table: Float[np.ndarray, "*dims 4"]) -> Float[np.ndarray, "*dims"]:
    """Compute Cohen's kappa of two raters from summed cells.

    `(agreed - expected) / (1 - expected)`, where `expected` is the chance agreement from their shares of yes. NaN where both
    raters always give the same single answer.

    Args:
        table: Cells (see `cells`) of two raters, summed over texts.
    """
    both, first, second, neither = np.moveaxis(table, -1, 0)
    n = both + first + second + neither
    with np.errstate(invalid="ignore", divide="ignore"):
        yes_a, yes_b = (both + first) / n, (both + second) / n
        expected = yes_a * yes_b + (1 - yes_a) * (1 - yes_b)
        return np.where(expected < 1, ((both + neither) / n - expected) / (1 - expected), np.nan)


def calibration_error(scores: Float[np.ndarray, " n"], labels: Float[np.ndarray, " n"]) -> float:
    """Compute the expected calibration error.

    The mean distance, over texts, between the mean score of a bin and its share of labels 1.

    Ten bins of equal width (Naeini et al. 2015); NaN without texts.

    Args:
        scores: Scores of one column.
        labels: Labels of the same texts, without NaN.
    """
    if not len(scores):
        return float("nan")
    bins = np.clip((scores * _BINS).astype(int), 0, _BINS - 1)
    return float(np.abs(np.bincount(bins, weights=scores - labels)).sum() / len(scores))


def _nanmean(x: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis without NaN; NaN where all are NaN."""
    defined = ~np.isnan(x)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, x, 0.0).sum(axis=-1) / defined.sum(axis=-1))
