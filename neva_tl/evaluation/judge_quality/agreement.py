"""Agreement of two judges, and confusion between values within one judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.arguments import check_arguments
from neva_tl.core.brief import brief
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.theories.schwartz import SCHWARTZ, distance_matrix
from neva_tl.evaluation.labels.decisions import cells, decide, kappa
from neva_tl.evaluation.measures.cluster_sums import bootstrap_weights
from neva_tl.evaluation.measures.estimate import Estimate, interval
from neva_tl.evaluation.measures.formulas import circle_correlation, mantel_p


def resampled_cells(
    table: Float[np.ndarray, "n c 4"], clusters: np.ndarray, *, n_boot: int, seed: int
) -> Float[np.ndarray, "b c 4"]:
    """Sum cells (see `decisions.cells`) over bootstrap draws of clusters.

    The draws depend only on the seed and the clusters' names, so judges of the same texts are paired. NaN with one cluster.

    Args:
        table: Cells of n texts and c columns.
        clusters: Cluster of each text.
        n_boot: Number of draws.
        seed: Seed of the draws.
    """
    distinct, member = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.zeros((len(distinct), *table.shape[1:]))
    np.add.at(sums, member.reshape(-1), table)
    names = (tuple(str(name) for name in distinct),)
    (weights,) = bootstrap_weights(names, ("texts",), n_boot=n_boot, seed=seed, shared=True)
    return np.tensordot(weights, sums, axes=1)


@dataclass(frozen=True, eq=False)
class Agreement:
    """Cohen's kappa of two judges per value.

    Attributes:
        df: label, est, lo, hi (95 %, clusters resampled), n (texts that both decided), agreed (share of equal decisions).
        mean: Mean over the values where kappa is defined.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scores = rng.random((40, 10))
        >>> agreement = nv.evaluation.agreement(scores, scores, np.arange(40), n_boot=20)
        >>> agreement.mean.est
        1.0
    """

    df: pd.DataFrame
    mean: Estimate

    __repr__ = brief

    def _repr_html_(self) -> str:
        return card("Agreement (Cohen's kappa)", {"mean": str(self.mean)}, self.df)

    def show(self) -> Any:
        """Plot kappa per value as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        return interval_plot(self.df, title=f"Agreement, mean {self.mean}", axis="Cohen's kappa", guide=0.0)


@check_arguments
def agreement(
    scores_a: Float[np.ndarray, "n c"],
    scores_b: Float[np.ndarray, "m d"],
    clusters: np.ndarray,
    *,
    threshold: float = 0.5,
    names: Sequence[str] = SCHWARTZ.names,
    n_boot: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Compute Cohen's kappa per column with cluster-bootstrap intervals.

    Kappa is scikit-learn's.

    Args:
        scores_a: Scores of the first judge, or its decisions (0 and 1) where it has its own thresholds.
        scores_b: Scores or decisions of the second judge on the same texts.
        clusters: Topic or source item of each text.
        threshold: Lowest score that decides for a value.
        names: Names of the columns.
        n_boot: Number of bootstrap draws.
        seed: Seed of the bootstrap.

    Raises:
        InputError: The shapes differ.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scores, noisy = rng.random((40, 10)), rng.random((40, 10))
        >>> nv.evaluation.agreement(scores, noisy, np.arange(40), n_boot=20).mean.est < 0.5
        True
    """
    if scores_a.shape != scores_b.shape or len(clusters) != len(scores_a) or len(names) != scores_a.shape[1]:
        raise InputError(f"scores {scores_a.shape} and {scores_b.shape}, {len(clusters)} clusters: shapes must agree")
    from sklearn.metrics import cohen_kappa_score

    a, b = decide(scores_a, threshold), decide(scores_b, threshold)
    table = cells(a, b)
    draws = kappa(resampled_cells(table, clusters, n_boot=n_boot, seed=seed))
    rows, points = [], []
    for k, name in enumerate(names):
        both = ~(np.isnan(a[:, k]) | np.isnan(b[:, k]))
        varied = len(set(a[both, k].tolist()) | set(b[both, k].tolist())) > 1
        points.append(float(cohen_kappa_score(a[both, k], b[both, k], labels=[0.0, 1.0])) if varied else np.nan)
        estimate = interval(points[-1], draws[:, k], int(both.sum()))
        agreed = float((a[both, k] == b[both, k]).mean()) if both.any() else np.nan
        rows.append({"label": name, **estimate.to_json(), "agreed": agreed})
    df = pd.DataFrame(rows).astype({"est": float, "lo": float, "hi": float})
    defined = ~np.isnan(points)
    if not defined.any():
        return Agreement(df, Estimate(None, None, None, len(scores_a)))
    mean = interval(float(np.mean(np.array(points)[defined])), draws[:, defined].mean(axis=1), len(scores_a))
    return Agreement(df, mean)


@dataclass(frozen=True, eq=False)
class Confusion:
    """Mean scores on the texts of each value.

    Attributes:
        matrix: Mean score of value j (columns) on the texts labelled i (rows), in circle order; NaN without such texts.
        lift: The matrix minus the mean score of j on all texts.
        counts: Number of texts labelled i.
        by_distance: distance (degrees on the circle), lift (mean over the cells at that distance), cells.
        rho: Spearman correlation of the off-diagonal lift with circular distance. Negative: the judge confuses neighbours more
            often than opposite values.
        p: Two-sided p-value of Mantel's test of `rho`.

    Example:
        >>> labels = np.eye(10)[np.arange(40) % 10]
        >>> confusion = nv.evaluation.confusion(0.8 * labels, labels, n_permutations=99)
        >>> confusion.matrix.loc["power", "power"].item(), confusion.matrix.loc["power", "security"].item()
        (0.8, 0.0)
    """

    matrix: pd.DataFrame
    lift: pd.DataFrame
    counts: pd.Series
    by_distance: pd.DataFrame
    rho: float
    p: float

    __repr__ = brief

    @property
    def df(self) -> pd.DataFrame:
        """Table with one row per cell: labelled, scored, mean, lift, distance, n."""
        rows = []
        for i, labelled in enumerate(SCHWARTZ.names):
            for j, scored in enumerate(SCHWARTZ.names):
                cell = {"labelled": labelled, "scored": scored, "mean": self.matrix.iloc[i, j]}
                cell |= {"lift": self.lift.iloc[i, j], "distance": distance_matrix()[i, j], "n": self.counts.iloc[i]}
                rows.append(cell)
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        return card(
            "Mean score of each value on texts of each value", {"rho": self.rho, "p": self.p}, self.matrix, index=True
        )

    def show(self) -> Any:
        """Plot the lift against circular distance as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        table = self.by_distance.assign(
            label=lambda df: df["distance"].map("{:.0f}°".format), est=lambda df: df["lift"]
        )
        return interval_plot(table.assign(lo=np.nan, hi=np.nan), title="Score above average", axis="lift", guide=0.0)


@check_arguments
def confusion(
    scores: Float[np.ndarray, "n v"], labels: Float[np.ndarray, "n v"], *, n_permutations: int = 9999, seed: int = 0
) -> Confusion:
    """Compute mean scores of each value on the texts of each value.

    The result includes the trend of these scores along the circle.

    A text with several labels counts in each of their rows, so the trend reflects co-occurring labels as well as errors of the
    judge.

    Args:
        scores: Scores of the judge.
        labels: Labels of the same texts.
        n_permutations: Number of permutations of Mantel's test.
        seed: Seed of the permutations.

    Raises:
        InputError: No text has a label of 1.

    Example:
        >>> labels = np.eye(10)[np.arange(40) % 10]
        >>> nv.evaluation.confusion(0.8 * labels, labels, n_permutations=99).matrix.shape
        (10, 10)
    """
    positive = labels == 1
    if not positive.any():
        raise InputError("no text is labelled 1: there is nothing to confuse")
    counts = positive.sum(axis=0)
    matrix = np.array([_means(scores[positive[:, i]]) for i in range(len(SCHWARTZ))])
    lift = matrix - _means(scores)
    rows, columns = np.flatnonzero(counts > 0), np.flatnonzero(~np.isnan(scores).all(axis=0))
    defined = lift[np.ix_(rows, columns)]
    of_rows, of_columns = [SCHWARTZ.names[i] for i in rows], [SCHWARTZ.names[j] for j in columns]
    off = distance_matrix()
    table = pd.DataFrame({"distance": off.ravel(), "lift": lift.ravel()}).dropna()
    by_distance = table.groupby("distance", as_index=False).agg(lift=("lift", "mean"), cells=("lift", "size"))
    enough = min(len(rows), len(columns)) > 1 and np.isfinite(defined).all()
    rho = float(circle_correlation(defined[None], of_rows, of_columns)[0]) if enough else float("nan")
    p = mantel_p(defined, of_rows, of_columns, n_permutations=n_permutations, seed=seed) if enough else float("nan")
    return Confusion(
        pd.DataFrame(matrix, index=list(SCHWARTZ.names), columns=list(SCHWARTZ.names)),
        pd.DataFrame(lift, index=list(SCHWARTZ.names), columns=list(SCHWARTZ.names)),
        pd.Series(counts, index=list(SCHWARTZ.names), name="n"),
        by_distance,
        rho,
        p,
    )


def _means(scores: np.ndarray) -> np.ndarray:
    """Return column means without NaN; NaN where all entries are NaN."""
    defined = ~np.isnan(scores)
    with np.errstate(invalid="ignore"):
        return np.where(defined, scores, 0.0).sum(axis=0) / defined.sum(axis=0)
