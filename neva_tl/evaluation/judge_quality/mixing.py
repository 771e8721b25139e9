"""Mixing matrix of a judge, estimated on held-out labelled texts.

The model (ours). A text truly expresses some of the ten values, `y` in {0, 1}^10. On average over texts

    E[s | y] = a + y M,    M[k, j] = rise of the judge's score of j where k is present, *other labels fixed*.

M is the slope of a multivariate linear regression (least squares with intercept) of all ten scores on all ten labels. It is not
the difference of mean scores with and without k: values occur together, and that difference would count values that are really
in the texts as confusion of the judge. An edit that changes the frequencies of the values by `D_true` then changes mean scores by
`D = D_true M`, for any change of their co-occurrence, as long as

- `E[s | y]` is linear in y (otherwise M is the best linear fit under the labelled texts' mix of labels), and
- the judge scores edited text as it scores labelled text. This may fail, and these functions cannot detect it: labels of the
  run's texts (`neva-tl annotate`) are the closest check.

`D_true = D M^-1` is in shares of texts, for any unit of the judge. Solving a linear system with known mixing is the matrix method
of misclassification studies (for one binary measurement: Rogan and Gladen 1978, `rogan_gladen`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.arguments import check_arguments
from neva_tl.core.brief import brief
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.theories.schwartz import SCHWARTZ
from neva_tl.evaluation.judges.base import TextJudge
from neva_tl.evaluation.labels.labelled import LabelledTexts
from neva_tl.evaluation.measures.cluster_sums import bootstrap_weights, random_halves
from neva_tl.evaluation.measures.estimate import Estimate, interval

#: Minimum number of positive and of negative texts per value.
MIN_LABELS = 5
#: Condition number above which a linear system has no meaningful solution in double precision.
WORST_CONDITION = 1e8


@dataclass(frozen=True, eq=False)
class JudgedTexts:
    """A judge's scores of texts whose labels are known for all ten values.

    Attributes:
        judge: Name of the judge.
        unit: Unit of the scores.
        labels_name: Name of the labelled texts.
        scores: Scores in [0, 1].
        labels: Labels, 1 or 0.
        clusters: Topic of each text.
        left_out: Number of texts left out because a label or a score is missing.

    Example:
        >>> labels = np.eye(10)[np.arange(40) % 10]
        >>> judged = nv.evaluation.JudgedTexts("exact", "P", "made up", 0.8 * labels, labels, np.arange(40).astype(str))
        >>> len(judged.names)  # one cluster per text
        40
    """

    judge: str
    unit: str
    labels_name: str
    scores: Float[np.ndarray, "n v"]
    labels: Float[np.ndarray, "n v"]
    clusters: np.ndarray
    left_out: int = 0

    __repr__ = brief

    @property
    def names(self) -> tuple[str, ...]:
        """Distinct clusters, sorted."""
        return tuple(str(name) for name in np.unique(self.clusters.astype(str)))

    def _repr_html_(self) -> str:
        facts = {"labels": self.labels_name, "texts": len(self.scores), "left out": self.left_out}
        yes = self.labels == 1
        table = pd.DataFrame(
            {
                "value": SCHWARTZ.names,
                "yes": yes.sum(axis=0),
                "score": [_mean(self.scores[:, j]) for j in range(len(SCHWARTZ))],
            }
        )
        return card(f"Texts judged by {self.judge}", facts, table)

    def show(self) -> Any:
        """Plot the mixing matrix of these texts as a matplotlib figure."""
        return mixing(self, n_boot=500).show()


@check_arguments
def judged(judge: TextJudge, labelled: LabelledTexts, *, split: str = "test") -> JudgedTexts:
    """Score held-out labelled texts with a judge.

    Args:
        judge: A text judge. Texts that it finds invalid score 0, as in a study.
        labelled: The labelled texts; their labels are reduced to the ten values.
        split: The split to score. Use `test` for a judge that was trained on the source's labels.

    Raises:
        InputError: The split does not exist, no text has all ten labels, or the judge failed on every text.

    Example:
        >>> table = pd.DataFrame({"text": ["He rules the whole town.", "She helps her friend."] * 10})
        >>> table = table.assign(**dict.fromkeys(nv.theories.SCHWARTZ.names, 0), cluster=range(20), split="test")
        >>> table.assign(power=[1, 0] * 10, benevolence=[0, 1] * 10).to_csv("labels.csv", index=False)
        >>> labelled = nv.evaluation.LabelledTexts.load("labels.csv")
        >>> nv.evaluation.judged(nv.evaluation.WordListJudge(), labelled).scores.shape
        (2, 10)
    """
    from neva_tl.evaluation.conditions.observe import score_texts

    texts = labelled.split(split).to_values()
    complete = ~np.isnan(texts.labels).any(axis=1)
    if not complete.any():
        most = int((~np.isnan(texts.labels)).sum(axis=1).max())
        raise InputError(
            f"no text of {labelled.name} is labelled for all ten values (at most {most} of them): the judge's confusion "
            "cannot be separated there from values that occur together; give fully labelled texts, such as valueeval:DIR"
        )
    scored = texts.part(complete)
    table = score_texts(judge, scored.texts, scored.contexts)
    scores = table[[f"score_{name}" for name in SCHWARTZ.names]].to_numpy(dtype=np.float64)
    read = ~np.isnan(scores).any(axis=1)
    if not read.any():
        raise InputError(f"the judge {judge.name} failed on every text of {labelled.name}")
    return JudgedTexts(
        judge.name,
        judge.unit,
        labelled.name,
        scores[read],
        scored.labels[read],
        scored.clusters[read],
        len(texts) - int(read.sum()),
    )


@dataclass(frozen=True, eq=False)
class MixingDraws:
    """Estimates on the data (row 0) and on every bootstrap draw of the clusters.

    Attributes:
        m: Mixing matrices, true x measured; NaN in draws whose labels do not define one.
        tpr: Mean score of each value in texts that have it.
        fpr: Mean score of each value in texts that do not have it.
        halves: For each halving of the clusters, `m` of both halves (for cross-fitting).
    """

    m: Float[np.ndarray, "b v v"]
    tpr: Float[np.ndarray, "b v"]
    fpr: Float[np.ndarray, "b v"]
    halves: tuple[tuple[Float[np.ndarray, "b v v"], Float[np.ndarray, "b v v"]], ...]


@dataclass(frozen=True, eq=False)
class Mixing:
    """Mixing matrix of a judge with intervals.

    The intervals come from a bootstrap over the clusters of the labelled texts.

    Attributes:
        judged: Scores and labels that M was estimated on.
        matrix: M, true value x measured value.
        lo: Lower bounds of M.
        hi: Upper bounds of M.
        condition: Condition number of M (2-norm): the largest factor by which relative errors of D grow in D_true.
        scaled: Condition number after division of every column of M by its length. The scores of a rare value may all be small,
            which makes `condition` large without harm (their noise is small too); this number shows whether the judge separates
            the values.
        weak: Values whose M[k, k] has a lower bound of 0 or less: the data do not show that the judge notices them, and their
            corrected numbers have no meaning.
        rates: tpr and fpr of each value (mean score with and without it) with intervals, and yes (number of texts with it).
        draws: The bootstrap draws.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = (rng.random((200, 10)) < 0.3).astype(float)
        >>> scores = 0.1 + 0.7 * labels + 0.1 * rng.random((200, 10))
        >>> judged = nv.evaluation.JudgedTexts("exact", "P", "made up", scores, labels, np.arange(200).astype(str))
        >>> mixing = nv.evaluation.mixing(judged, n_boot=20)
        >>> round(float(mixing.matrix.loc["power", "power"]), 1)
        0.7
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

    __repr__ = brief

    def table(self) -> pd.DataFrame:
        """Return M as one row per cell.

        Columns: judge, labels, true, measured, m, lo, hi, n (texts), yes (texts that have the true value).
        """
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
            for k, true in enumerate(SCHWARTZ.names)
            for j, measured in enumerate(SCHWARTZ.names)
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
        return card(f"Confusion of {self.judged.judge}", facts, matrix, index=True)

    def show(self) -> Any:
        """Plot M as a heatmap in circle order (matplotlib)."""
        from neva_tl.plots.confusion import mixing_heatmap

        return mixing_heatmap(self.table())


@check_arguments
def mixing(judged: JudgedTexts, *, seed: int = 0, n_boot: int = 2000, level: float = 0.95, n_splits: int = 8) -> Mixing:
    """Estimate the mixing matrix of a judge.

    Args:
        judged: Scores of labelled texts.
        seed: Seed of the cluster bootstrap.
        n_boot: Number of bootstrap draws.
        level: Confidence level.
        n_splits: Number of halvings of the clusters, for the cross-fitting of corrected leakage.

    Raises:
        InputError: A value has too few labels, labels are collinear, or the judge does not separate values at all (M is
            singular). The message names the value.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = (rng.random((200, 10)) < 0.3).astype(float)
        >>> scores = 0.1 + 0.7 * labels + 0.1 * rng.random((200, 10))
        >>> judged = nv.evaluation.JudgedTexts("exact", "P", "made up", scores, labels, np.arange(200).astype(str))
        >>> nv.evaluation.mixing(judged, n_boot=20).weak
        ()
    """
    _check_labels(judged.labels, judged.clusters, judged.labels_name)
    draws = _draw(judged, seed=seed, n_boot=n_boot, n_splits=n_splits)
    m = draws.m[0]
    _check_invertible(m, judged)
    n = len(judged.scores)
    cells = [[interval(draws.m[0, k, j], draws.m[1:, k, j], n, level) for j in range(10)] for k in range(10)]

    def frame(pick: str) -> pd.DataFrame:
        data = [[getattr(cell, pick) for cell in row] for row in cells]
        return pd.DataFrame(data, index=list(SCHWARTZ.names), columns=list(SCHWARTZ.names), dtype=float)

    floors = [cells[k][k].lo for k in range(10)]
    weak = tuple(name for name, floor in zip(SCHWARTZ.names, floors, strict=True) if floor is None or floor <= 0)
    conditions, scaled = condition_numbers(draws.m), condition_numbers(_scaled(draws.m))
    rates = []
    for j, name in enumerate(SCHWARTZ.names):
        row: dict[str, Any] = {"value": name}
        for rate, x in (("tpr", draws.tpr[:, j]), ("fpr", draws.fpr[:, j])):
            row |= interval(x[0], x[1:], n, level).columns(rate)
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
    """Compute least-squares slopes from `X'X` and `X'S`.

    The first row, the intercept, is dropped. NaN where labels are collinear.

    Args:
        gram: `X'X` of each draw, intercept first.
        cross: `X'S` of each draw.
    """
    good = condition_numbers(gram) < WORST_CONDITION
    safe = np.where(good[:, None, None], gram, np.eye(gram.shape[-1]))
    return np.where(good[:, None, None], np.linalg.solve(safe, cross), np.nan)[:, 1:, :]


def unmix(d: Float[np.ndarray, "b i v"], m: Float[np.ndarray, "b v v"]) -> Float[np.ndarray, "b i v"]:
    """Compute `D_true = D M^-1` for each draw by solving `M' D_true' = D'`.

    NaN where M is singular or undefined.

    Args:
        d: Effects D of each draw, steered x measured.
        m: Mixing matrix M of each draw.
    """
    good = condition_numbers(m) < WORST_CONDITION
    safe = np.where(good[:, None, None], m, np.eye(m.shape[-1]))
    solved = np.swapaxes(np.linalg.solve(np.swapaxes(safe, 1, 2), np.swapaxes(d, 1, 2)), 1, 2)
    return np.where(good[:, None, None], solved, np.nan)


def condition_numbers(m: Float[np.ndarray, "b p p"]) -> Float[np.ndarray, " b"]:
    """Compute the 2-norm condition number of each matrix; inf with non-finite entries.

    Args:
        m: Square matrices.
    """
    good = np.isfinite(m).all(axis=(1, 2))
    safe = np.where(good[:, None, None], m, 0.0)
    values = np.linalg.svd(safe, compute_uv=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = values[:, 0] / values[:, -1]
    return np.where(good & (values[:, -1] > 0), ratio, np.inf)


def _scaled(m: Float[np.ndarray, "b v v"]) -> Float[np.ndarray, "b v v"]:
    """Scale columns to length 1; NaN where a column is 0.

    This scaling is nearly the best conditioned one (van der Sluis 1969).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return m / np.sqrt((m**2).sum(axis=1, keepdims=True))


@check_arguments
def rogan_gladen(
    measured: Float[np.ndarray, "*dims"], tpr: Float[np.ndarray, "*dims"], fpr: Float[np.ndarray, "*dims"]
) -> Float[np.ndarray, "*dims"]:
    """Estimate a true share from a measured one (Rogan and Gladen 1978).

    The estimate is `(measured - fpr) / (tpr - fpr)`. It is not truncated: noise may move it out of [0, 1]. It treats fpr as one
    number, although a judge that confuses values has a different one for every mix of the other values.

    Args:
        measured: Mean scores.
        tpr: Mean scores of labelled texts with the value (the true positive rate of a judge whose scores are 0 or 1).
        fpr: Mean scores of labelled texts without the value (likewise, the false positive rate).

    Returns:
        The estimate; NaN where tpr is not above fpr: the judge does not detect the value.

    Example:
        >>> nv.evaluation.rogan_gladen(np.array([0.5]), np.array([0.9]), np.array([0.1])).round(2)
        array([0.5])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(tpr > fpr, (measured - fpr) / (tpr - fpr), np.nan)


def _mean(x: np.ndarray) -> float:
    return float(x.mean()) if len(x) else float("nan")


def _check_labels(labels: np.ndarray, clusters: np.ndarray, source: str) -> None:
    yes, no = (labels == 1).sum(axis=0), (labels == 0).sum(axis=0)
    few = [
        f"{name} ({yes[j]} texts have it, {no[j]} do not)"
        for j, name in enumerate(SCHWARTZ.names)
        if min(yes[j], no[j]) < MIN_LABELS
    ]
    if few:
        raise InputError(
            f"{source} has too few labels of {', '.join(few)}: at least {MIN_LABELS} of each kind are needed for every "
            "value; label more texts"
        )
    if len(set(clusters.tolist())) < 2:
        raise InputError(f"the labelled texts of {source} all belong to one cluster: intervals need at least two")
    _, size, directions = np.linalg.svd(labels - labels.mean(axis=0), full_matrices=False)
    if size[-1] <= 1e-9 * size[0]:
        tied = [name for name, weight in zip(SCHWARTZ.names, directions[-1], strict=True) if abs(weight) > 0.1]
        raise InputError(
            f"the labels of {', '.join(tied)} in {source} determine each other: the judge's response to each cannot be "
            "separated; add texts that have one without the others"
        )


def _check_invertible(m: np.ndarray, judged: JudgedTexts) -> None:
    if condition_numbers(m[None])[0] < WORST_CONDITION:
        return
    silent = np.abs(m).max(axis=0) <= 1e-12
    _, _, right = np.linalg.svd(m.T)  # the mix of true values that changes no score
    mixed = np.abs(right[-1]) > 0.3
    lost = [name for name, it in zip(SCHWARTZ.names, silent if silent.any() else mixed, strict=True) if it]
    raise InputError(
        f"the judge {judged.judge} cannot tell {', '.join(lost)} from other values on {judged.labels_name}: its mixing matrix "
        "is singular and leakage cannot be corrected with it; use a judge that reads every value, or other labels"
    )


def _draw(judged: JudgedTexts, *, seed: int, n_boot: int, n_splits: int) -> MixingDraws:
    """Estimate M on the data and on every draw.

    The regressions use cluster sums of `X'X` and `X'S`, so a draw costs one small solve instead of a pass over the texts.
    """
    names = (judged.names,)
    _, member = np.unique(judged.clusters.astype(str), return_inverse=True)
    x = np.column_stack([np.ones(len(judged.labels)), judged.labels])
    size = len(names[0])

    def sums(rows: Float[np.ndarray, "n ..."]) -> np.ndarray:
        out = np.zeros((size, *rows.shape[1:]))
        np.add.at(out, member.reshape(-1), rows)
        return out

    gram, cross = sums(x[:, :, None] * x[:, None, :]), sums(x[:, :, None] * judged.scores[:, None, :])
    # "labels" is not the name of a value, so the draws are independent of those of the prompts' topics
    boot = bootstrap_weights(names, ("labels",), n_boot=n_boot, seed=seed, shared=False)[0]
    halves = random_halves(names, ("labels",), n_splits=n_splits, seed=seed, shared=False)[0]
    weights = np.vstack([np.ones((1, size)), boot])

    def fit(some: Float[np.ndarray, "b c"]) -> Float[np.ndarray, "b v v"]:
        return slopes(np.tensordot(some, gram, axes=1), np.tensordot(some, cross, axes=1))

    return MixingDraws(
        fit(weights),
        *_rates(judged, weights, sums),
        tuple((fit(weights * half), fit(weights * ~half)) for half in halves),
    )


def _rates(
    judged: JudgedTexts, weights: np.ndarray, sums: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    rates = []
    for condition in (judged.labels == 1, judged.labels == 0):
        mask = condition.astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            rates.append((weights @ sums(mask * judged.scores)) / (weights @ sums(mask)))
    return rates[0], rates[1]
