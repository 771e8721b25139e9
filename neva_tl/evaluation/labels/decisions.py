"""From scores to decisions, and what decisions are worth: pure functions on arrays.

A decision is 1 (the text expresses the value), 0, or NaN where the judge gave no score; labels likewise, NaN = nobody
said. Cells where either is NaN count nowhere.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

#: Bins of equal width behind the calibration error.
_BINS = 10


def decide(
    scores: Float[np.ndarray, "n c"], thresholds: Float[np.ndarray, " c"] | float = 0.5
) -> Float[np.ndarray, "n c"]:
    """1 where a score reaches its column's threshold, 0 where not, NaN where there is none."""
    return np.where(np.isnan(scores), np.nan, (scores >= thresholds).astype(float))


def cells(decisions: Float[np.ndarray, "n c"], labels: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c 4"]:
    """Per text and column the four cells of the table of decision by label, as 0 or 1: both yes, decision alone, label
    alone, both no. Sums of them over texts are all that the rates below need."""
    known = ~(np.isnan(decisions) | np.isnan(labels))
    said, true = decisions == 1, labels == 1
    return (np.stack([said & true, said & ~true, ~said & true, ~said & ~true], axis=-1) & known[..., None]).astype(
        float
    )


def rates(table: Float[np.ndarray, "*dims 4"]) -> dict[str, Float[np.ndarray, "*dims"]]:
    """Precision, recall, F1 and accuracy of summed cells.

    Precision is 0 where nothing was decided to be there (scikit-learn's `zero_division=0`, also the shared task's
    convention); precision, recall and F1 are NaN where no label is 1, accuracy where there is no label.
    """
    tp, fp, fn, tn = np.moveaxis(table, -1, 0)
    there = tp + fn > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "precision": np.where(there, np.where(tp + fp > 0, tp / (tp + fp), 0.0), np.nan),
            "recall": np.where(there, tp / (tp + fn), np.nan),
            "f1": np.where(there, 2 * tp / (2 * tp + fp + fn), np.nan),
            "accuracy": (tp + tn) / (tp + fp + fn + tn),
        }


def macro(table: Float[np.ndarray, "*dims c 4"]) -> dict[str, Float[np.ndarray, "*dims"]]:
    """Means over columns, those without a label of 1 left out of all but accuracy.

    - `task_f1`: harmonic mean of macro precision and macro recall, as the shared task ValueEval 2023 ranked its teams.
    - `macro_f1`: mean of the columns' F1, as scikit-learn's `average="macro"`.
    - `accuracy`: mean of the columns' accuracies.

    The first two differ, and published figures of one must not be held against the other.
    """
    found = rates(table)
    precision, recall, f1, accuracy = (_nanmean(found[name]) for name in ("precision", "recall", "f1", "accuracy"))
    with np.errstate(invalid="ignore", divide="ignore"):
        both = np.where(precision + recall > 0, 2 * precision * recall / (precision + recall), precision + recall)
    return {"task_f1": both, "macro_f1": f1, "accuracy": accuracy}


def one_baseline(labels: Float[np.ndarray, "n c"]) -> dict[str, float]:
    """`macro` of a judge that finds every value in every text (the shared task's 1-baseline)."""
    return {name: float(x) for name, x in macro(cells(np.ones_like(labels), labels).sum(axis=0)).items()}


def kappa(table: Float[np.ndarray, "*dims 4"]) -> Float[np.ndarray, "*dims"]:
    """Cohen's kappa of two deciders from summed cells: `(agreed - expected) / (1 - expected)` with the agreement that
    their shares of yes would give by chance; NaN where both always say the same one thing."""
    both, first, second, neither = np.moveaxis(table, -1, 0)
    n = both + first + second + neither
    with np.errstate(invalid="ignore", divide="ignore"):
        yes_a, yes_b = (both + first) / n, (both + second) / n
        expected = yes_a * yes_b + (1 - yes_a) * (1 - yes_b)
        return np.where(expected < 1, ((both + neither) / n - expected) / (1 - expected), np.nan)


def calibration_error(scores: Float[np.ndarray, " n"], labels: Float[np.ndarray, " n"]) -> float:
    """Expected calibration error: mean distance, over texts, between a bin's mean score and its share of labels 1.

    Ten bins of equal width (Naeini et al. 2015); NaN without texts.
    """
    if not len(scores):
        return float("nan")
    place = np.clip((scores * _BINS).astype(int), 0, _BINS - 1)
    return float(np.abs(np.bincount(place, weights=scores - labels)).sum() / len(scores))


def _nanmean(x: np.ndarray) -> np.ndarray:
    """Mean over the last axis without its NaN, NaN where all are."""
    there = ~np.isnan(x)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, x, 0.0).sum(axis=-1) / there.sum(axis=-1))
