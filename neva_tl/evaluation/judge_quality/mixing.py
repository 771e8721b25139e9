"""What a judge mixes up: its mixing matrix, estimated on labelled texts that it was not made from.

The model (ours). A text truly expresses some of the ten values, `y` in {0, 1}^10. On average over texts

    E[s | y] = a + y M,    M[k, j] = how much the judge's score of j rises where k is there, *the other labels held*.

M is the slope of a multivariate linear regression (least squares with intercept) of all ten scores on all ten labels.
It is not the difference of mean scores with and without k: values occur together, and that difference would book what
really stands in the texts as confusion of the judge. An edit that changes how often the values are there by `D_true`
then changes mean scores by `D = D_true M`, whatever it does to their co-occurrence, as long as

- `E[s | y]` is linear in y (otherwise M is the best linear fit under the labelled texts' mix of labels), and
- the judge reads edited text as it reads labelled text. That may not be so, and nothing here can show it: labels of the
  run's own texts (`neva-tl annotate`) are the closest one can get.

`D_true = D M^-1` is in shares of texts, whatever the judge's unit. Solving a linear system for known mixing is the
matrix method of misclassification studies (for one binary reading: Rogan and Gladen 1978, `rogan_gladen`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.evaluation.judges.base import TextJudge
from neva_tl.evaluation.labels.labelled import LabelledTexts
from neva_tl.evaluation.measures.estimate import Estimate, interval
from neva_tl.evaluation.measures.responses import bootstrap_weights, random_halves

#: A value needs so many texts that have it and so many that have not.
MIN_LABELS = 5
#: A system worse conditioned than this has no solution to speak of in double precision.
WORST_CONDITION = 1e8


@dataclass(frozen=True, eq=False)
class JudgedTexts:
    """A judge's scores of texts whose labels are known for all ten values.

    Attributes:
        judge, unit: of the scores. labels_name: of the labelled texts.
        scores: in [0, 1]; labels: 1 or 0. clusters: topic of each text.
        left_out: texts left out because a label or a score is missing.
    """

    judge: str
    unit: str
    labels_name: str
    scores: Float[np.ndarray, "n 10"]
    labels: Float[np.ndarray, "n 10"]
    clusters: np.ndarray
    left_out: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Distinct clusters, sorted."""
        return tuple(str(name) for name in np.unique(self.clusters.astype(str)))

    def _repr_html_(self) -> str:
        facts = {"labels": self.labels_name, "texts": len(self.scores), "left out": self.left_out}
        yes = self.labels == 1
        table = pd.DataFrame(
            {"value": VALUES, "yes": yes.sum(axis=0), "score": [_mean(self.scores[:, j]) for j in range(len(VALUES))]}
        )
        return card(f"Texts judged by {self.judge}", facts, table)

    def show(self) -> Any:
        """The mixing matrix of these texts as a matplotlib figure."""
        return mixing(self, n_boot=500).show()


def judged(judge: TextJudge, labelled: LabelledTexts, *, split: str = "test") -> JudgedTexts:
    """Let a judge read held-out labelled texts.

    Args:
        judge: reads texts; what it calls invalid scores 0, as in a study.
        labelled: reduced to the ten values here.
        split: the part to use. A judge trained on labels must be corrected on the source's `test` part.

    Raises:
        InputError: no such split, or no text whose ten labels are all known.
    """
    from neva_tl.evaluation.conditions.observe import score_texts

    texts = labelled.split(split).to_values()
    known = ~np.isnan(texts.labels).any(axis=1)
    if not known.any():
        most = int((~np.isnan(texts.labels)).sum(axis=1).max())
        raise InputError(
            f"no text of {labelled.name} is labelled for all ten values (at most {most} of them): what a judge mixes up "
            "cannot be told there from values that occur together; give fully labelled texts, such as valueeval:DIR"
        )
    whole = texts.part(known)
    table = score_texts(judge, whole.texts, whole.contexts)
    scores = table[[f"score_{name}" for name in VALUES]].to_numpy(dtype=np.float64)
    read = ~np.isnan(scores).any(axis=1)
    if not read.any():
        raise InputError(f"the judge {judge.name} failed on every text of {labelled.name}")
    return JudgedTexts(
        judge.name,
        judge.unit,
        labelled.name,
        scores[read],
        whole.labels[read],
        whole.clusters[read],
        len(texts) - int(read.sum()),
    )


@dataclass(frozen=True, eq=False)
class MixingDraws:
    """What is estimated of a judge on the data (row 0) and on every bootstrap draw of the labelled texts' clusters.

    Attributes:
        m: mixing matrices, true x measured; NaN in draws whose labels do not define one.
        tpr, fpr: mean score of each value where it is there and where it is not.
        halves: per halving of the clusters, m of either half (for cross-fitting).
    """

    m: Float[np.ndarray, "b 10 10"]
    tpr: Float[np.ndarray, "b 10"]
    fpr: Float[np.ndarray, "b 10"]
    halves: tuple[tuple[Float[np.ndarray, "b 10 10"], Float[np.ndarray, "b 10 10"]], ...]


@dataclass(frozen=True, eq=False)
class Mixing:
    """The mixing matrix of a judge with intervals (bootstrap over the labelled texts' clusters).

    Attributes:
        judged: what it was estimated on.
        matrix, lo, hi: M, true value x measured value.
        condition: the condition number of M (2-norm): by how much, at most, relative errors of D grow on the way to D_true.
        scaled: the same after every column of M is divided by its length. Scores of a rare value may all be small, which
            makes `condition` large and does no harm (its noise is small too): this one says whether values are told apart.
        weak: values whose own M[k, k] is not above 0 with its whole interval: the judge was not seen to notice them, and
            what is corrected for them says nothing.
        rates: per value tpr, fpr (mean score where it is there and where it is not) with intervals, and yes (texts).
    """

    judged: JudgedTexts
    matrix: pd.DataFrame
    lo: pd.DataFrame
    hi: pd.DataFrame
    condition: Estimate
    scaled: Estimate
    weak: tuple[str, ...]
    rates: pd.DataFrame
    draws: MixingDraws = field(repr=False)

    def table(self) -> pd.DataFrame:
        """Tidy M: judge, labels, true, measured, m, lo, hi, n (texts), yes (texts that have the true value)."""
        rows = [
            {
                "judge": self.judged.judge,
                "labels": self.judged.labels_name,
                "true": true,
                "measured": measured,
                "m": self.matrix.iat[k, j],
                "lo": self.lo.iat[k, j],
                "hi": self.hi.iat[k, j],
                "n": len(self.judged.scores),
                "yes": int((self.judged.labels[:, k] == 1).sum()),
            }
            for k, true in enumerate(VALUES)
            for j, measured in enumerate(VALUES)
        ]
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        facts = {"labels": self.judged.labels_name, "texts": len(self.judged.scores)}
        facts |= {
            "condition number": self.condition,
            "with scaled columns": self.scaled,
            "not noticed": ", ".join(self.weak) or None,
        }
        matrix = self.matrix.rename_axis(index="true", columns="measured")
        return card(f"What {self.judged.judge} mixes up", facts, matrix, index=True)

    def show(self) -> Any:
        """M as a heatmap in circle order (matplotlib)."""
        from neva_tl.plots.confusion import mixing_heatmap

        return mixing_heatmap(self.table())


def mixing(judged: JudgedTexts, *, seed: int = 0, n_boot: int = 2000, level: float = 0.95, n_splits: int = 8) -> Mixing:
    """Estimate what a judge mixes up.

    Args:
        judged: its scores of labelled texts.
        seed, n_boot, level: of the cluster bootstrap.
        n_splits: halvings of the clusters, for the cross-fitting of corrected leakage.

    Raises:
        InputError: a value has too few labels, labels are collinear, or the judge cannot tell values apart at all (M is
            singular); the value is named.
    """
    _check_labels(judged.labels, judged.clusters, judged.labels_name)
    draws = _draw(judged, seed=seed, n_boot=n_boot, n_splits=n_splits)
    m = draws.m[0]
    _check_invertible(m, judged)
    n = len(judged.scores)
    cells = [[interval(draws.m[0, k, j], draws.m[1:, k, j], n, level) for j in range(10)] for k in range(10)]

    def frame(pick: str) -> pd.DataFrame:
        data = [[getattr(cell, pick) for cell in row] for row in cells]
        return pd.DataFrame(data, index=list(VALUES), columns=list(VALUES), dtype=float)

    floors = [cells[k][k].lo for k in range(10)]
    weak = tuple(name for name, floor in zip(VALUES, floors, strict=True) if floor is None or floor <= 0)
    conditions, scaled = condition_numbers(draws.m), condition_numbers(_scaled(draws.m))
    rates = []
    for j, name in enumerate(VALUES):
        row: dict[str, Any] = {"value": name}
        for what, x in (("tpr", draws.tpr[:, j]), ("fpr", draws.fpr[:, j])):
            found = interval(x[0], x[1:], n, level)
            row |= found.columns(what)
        rates.append(row | {"yes": int((judged.labels[:, j] == 1).sum())})
    return Mixing(
        judged,
        frame("est"),
        frame("lo"),
        frame("hi"),
        interval(conditions[0], conditions[1:], n, level),
        interval(scaled[0], scaled[1:], n, level),
        weak,
        pd.DataFrame(rates),
        draws,
    )


def slopes(gram: Float[np.ndarray, "b p p"], cross: Float[np.ndarray, "b p q"]) -> Float[np.ndarray, "b p-1 q"]:
    """Least-squares slopes (the intercept, first, is dropped) from `X'X` and `X'S`; NaN where labels are collinear."""
    good = condition_numbers(gram) < WORST_CONDITION
    safe = np.where(good[:, None, None], gram, np.eye(gram.shape[-1]))
    return np.where(good[:, None, None], np.linalg.solve(safe, cross), np.nan)[:, 1:, :]


def unmix(d: Float[np.ndarray, "b i 10"], m: Float[np.ndarray, "b 10 10"]) -> Float[np.ndarray, "b i 10"]:
    """`D_true = D M^-1` for each draw, by solving `M' D_true' = D'`; NaN where M is singular or not defined."""
    good = condition_numbers(m) < WORST_CONDITION
    safe = np.where(good[:, None, None], m, np.eye(m.shape[-1]))
    solved = np.swapaxes(np.linalg.solve(np.swapaxes(safe, 1, 2), np.swapaxes(d, 1, 2)), 1, 2)
    return np.where(good[:, None, None], solved, np.nan)


def condition_numbers(m: Float[np.ndarray, "b p p"]) -> Float[np.ndarray, " b"]:
    """2-norm condition number of each matrix; inf where an entry is not finite."""
    good = np.isfinite(m).all(axis=(1, 2))
    safe = np.where(good[:, None, None], m, 0.0)
    values = np.linalg.svd(safe, compute_uv=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = values[:, 0] / values[:, -1]
    return np.where(good & (values[:, -1] > 0), found, np.inf)


def _scaled(m: Float[np.ndarray, "b 10 10"]) -> Float[np.ndarray, "b 10 10"]:
    """Columns of length 1 (nearly the best conditioned scaling: van der Sluis 1969); NaN where a column is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return m / np.sqrt((m**2).sum(axis=1, keepdims=True))


def rogan_gladen(
    measured: Float[np.ndarray, "*dims"], tpr: Float[np.ndarray, "*dims"], fpr: Float[np.ndarray, "*dims"]
) -> Float[np.ndarray, "*dims"]:
    """`(measured - fpr) / (tpr - fpr)`: the true share behind a measured one (Rogan and Gladen 1978).

    Here `measured` is a mean score, and tpr and fpr are the mean scores of labelled texts that have the value and that have
    it not (for a judge that says only 0 or 1 these are its rates). Not truncated: noise may carry it out of [0, 1]. It takes
    fpr as one number, although a judge that mixes values up has another one for every mix of the others.

    Returns:
        NaN where tpr is not above fpr: the judge does not see the value.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(tpr > fpr, (measured - fpr) / (tpr - fpr), np.nan)


def _mean(x: np.ndarray) -> float:
    return float(x.mean()) if len(x) else float("nan")


def _check_labels(labels: np.ndarray, clusters: np.ndarray, source: str) -> None:
    yes, no = (labels == 1).sum(axis=0), (labels == 0).sum(axis=0)
    few = [
        f"{name} ({yes[j]} texts have it, {no[j]} have it not)"
        for j, name in enumerate(VALUES)
        if min(yes[j], no[j]) < MIN_LABELS
    ]
    if few:
        raise InputError(
            f"{source} has too few labels of {', '.join(few)}: at least {MIN_LABELS} of either kind are needed for every "
            "value; label more texts"
        )
    if len(set(clusters.tolist())) < 2:
        raise InputError(f"the labelled texts of {source} all belong to one cluster: intervals need at least two")
    _, size, directions = np.linalg.svd(labels - labels.mean(axis=0), full_matrices=False)
    if size[-1] <= 1e-9 * size[0]:
        tied = [name for name, weight in zip(VALUES, directions[-1], strict=True) if abs(weight) > 0.1]
        raise InputError(
            f"the labels of {', '.join(tied)} in {source} follow from one another: what the judge does with each cannot be "
            "told apart; add texts that have one without the others"
        )


def _check_invertible(m: np.ndarray, judged: JudgedTexts) -> None:
    if condition_numbers(m[None])[0] < WORST_CONDITION:
        return
    silent = np.abs(m).max(axis=0) <= 1e-12
    _, _, right = np.linalg.svd(m.T)  # the mix of true values that moves no score
    mixed = np.abs(right[-1]) > 0.3
    lost = [name for name, it in zip(VALUES, silent if silent.any() else mixed, strict=True) if it]
    raise InputError(
        f"the judge {judged.judge} cannot tell {', '.join(lost)} on {judged.labels_name}: its mixing matrix is singular and "
        "leakage cannot be corrected with it; use a judge that reads every value, or other labels"
    )


def _draw(judged: JudgedTexts, *, seed: int, n_boot: int, n_splits: int) -> MixingDraws:
    """Regressions on cluster sums of `X'X` and `X'S`, so that a draw costs one small solve, not a pass over the texts."""
    names = (judged.names,)
    _, member = np.unique(judged.clusters.astype(str), return_inverse=True)
    x = np.column_stack([np.ones(len(judged.labels)), judged.labels])
    size = len(names[0])

    def sums(rows: Float[np.ndarray, "n ..."]) -> np.ndarray:
        out = np.zeros((size, *rows.shape[1:]))
        np.add.at(out, member.reshape(-1), rows)
        return out

    gram, cross = sums(x[:, :, None] * x[:, None, :]), sums(x[:, :, None] * judged.scores[:, None, :])
    # seeded apart from the prompts' topics ("labels" is no value): the two samples are independent
    boot = bootstrap_weights(names, ("labels",), n_boot=n_boot, seed=seed, shared=False)[0]
    halves = random_halves(names, ("labels",), n_splits=n_splits, seed=seed, shared=False)[0]
    weights = np.vstack([np.ones((1, size)), boot])

    def fit(some: Float[np.ndarray, "b c"]) -> Float[np.ndarray, "b 10 10"]:
        return slopes(np.tensordot(some, gram, axes=1), np.tensordot(some, cross, axes=1))

    return MixingDraws(
        fit(weights),
        *_rates(judged, weights, sums),
        tuple((fit(weights * half), fit(weights * ~half)) for half in halves),
    )


def _rates(
    judged: JudgedTexts, weights: np.ndarray, sums: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for chosen in (judged.labels == 1, judged.labels == 0):
        mask = chosen.astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append((weights @ sums(mask * judged.scores)) / (weights @ sums(mask)))
    return found[0], found[1]
