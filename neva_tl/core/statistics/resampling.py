"""Bootstrap by cluster, split halves, rank correlation and the Mantel test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Num
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata, spearmanr

from neva_tl.core.arguments import check_arguments
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.core.kinds import Count
from neva_tl.core.statistics.limits import containing, shifted

Alternative = Literal["two-sided", "greater", "less"]


class Estimate(NamedTuple):
    """An estimate with its interval.

    Attributes:
        est: Point estimate, a number or an array.
        lo: Lower limit.
        hi: Upper limit.
        n: Number of clusters.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> estimate = nv.statistics.cluster_bootstrap(np.array([0.1, 0.4, 0.2, 0.5]), None, rng=rng)
        >>> round(float(estimate.est), 2), estimate.n
        (0.3, 4)
    """

    est: Any
    lo: Any
    hi: Any
    n: int

    def __repr__(self) -> str:
        return brief(self)


@check_arguments
def cluster_bootstrap(
    values: Num[np.ndarray, "n ..."],
    clusters: np.ndarray | None,
    statistic: Callable[[np.ndarray], Any] = lambda x: x.mean(axis=0),
    *,
    n: Count = 2000,
    rng: np.random.Generator,
    level: float = 0.95,
    method: Literal["percentile", "bca"] = "percentile",
) -> Estimate:
    """Compute a bootstrap interval by resampling whole clusters with replacement.

    No interval excludes its estimate. Where percentiles exclude it, because resampling biases the statistic, they are
    shifted so that the median draw is the estimate (see `limits.shifted`); a BCa limit beyond the estimate becomes the
    estimate.

    Args:
        values: Rows to resample.
        clusters: Cluster name of each row; None makes every row its own cluster.
        statistic: Function from resampled rows to a number or array.
        n: Number of draws.
        rng: Random generator.
        level: Nominal coverage.
        method: `percentile`, or `bca` (bias-corrected and accelerated, Efron 1987; the acceleration comes from leaving out
            one cluster at a time).

    Raises:
        InputError: Fewer than two clusters, or a statistic that is not finite on the data or on a draw.

    Example:
        >>> scores, topics = np.array([0.1, 0.2, 0.7, 0.8]), np.array(["a", "a", "b", "c"])
        >>> estimate = nv.statistics.cluster_bootstrap(scores, topics, np.mean, rng=np.random.default_rng(0))
        >>> round(float(estimate.est), 2), bool(estimate.lo < estimate.est < estimate.hi)
        (0.45, True)
    """
    values = np.asarray(values)
    rows = _rows_of(np.arange(len(values)) if clusters is None else np.asarray(clusters), len(values))
    if len(rows) < 2:
        raise InputError(f"a cluster bootstrap needs at least two clusters: there are {len(rows)}")
    estimate = np.asarray(statistic(values), dtype=np.float64)
    picks = (rng.integers(0, len(rows), len(rows)) for _ in range(n))
    draws = np.stack([np.asarray(statistic(values[np.concatenate([rows[i] for i in pick])]), float) for pick in picks])
    if not (np.isfinite(estimate).all() and np.isfinite(draws).all()):
        raise InputError("the bootstrapped statistic is not finite: drop clusters with missing scores first")
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "percentile":
        lo, middle, hi = np.quantile(draws, [tails[0], 0.5, tails[1]], axis=0)
        lo, hi = shifted(estimate, lo, middle, hi)
    elif method == "bca":
        left_out = np.stack(
            [
                np.asarray(statistic(values[np.concatenate(rows[:i] + rows[i + 1 :])]), dtype=np.float64)
                for i in range(len(rows))
            ]
        )
        lo, hi = containing(estimate, *_bca(estimate, draws, left_out, tails))
    else:
        raise InputError(f"unknown bootstrap method {method!r}: percentile or bca")
    if estimate.ndim == 0:
        return Estimate(float(estimate), float(lo), float(hi), len(rows))
    return Estimate(estimate, np.asarray(lo), np.asarray(hi), len(rows))


def _rows_of(clusters: np.ndarray, n: int) -> list[np.ndarray]:
    if len(clusters) != n:
        raise InputError(f"{n} rows but {len(clusters)} cluster names")
    _, index = np.unique(clusters.astype(str), return_inverse=True)
    order = np.argsort(index, kind="stable")
    return np.split(order, np.cumsum(np.bincount(index))[:-1]) if n else []


def _bca(
    estimate: np.ndarray, draws: np.ndarray, left_out: np.ndarray, tails: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    count = len(draws)
    # ties count half, as in SciPy
    below = ((draws < estimate).sum(axis=0) + (draws <= estimate).sum(axis=0)) / (2 * count)
    bias = ndtri(np.clip(below, 0.5 / count, 1 - 0.5 / count))
    spread = left_out.mean(axis=0) - left_out
    cubes, squares = (spread**3).sum(axis=0), (spread**2).sum(axis=0)
    skew = np.divide(cubes, 6 * squares**1.5, out=np.zeros_like(cubes), where=squares > 0)
    flat = draws.reshape(count, -1)
    ends = []
    for tail in tails:
        z = bias + ndtri(tail)
        share = np.broadcast_to(ndtr(bias + z / (1 - skew * z)), estimate.shape).ravel()
        ends.append(np.array([np.quantile(flat[:, i], share[i]) for i in range(flat.shape[1])]).reshape(estimate.shape))
    return ends[0], ends[1]


@check_arguments
def halves_of_folds(counts: Num[np.ndarray, " f"]) -> tuple[list[int], list[int]]:
    """Divide folds into two halves of similar size: from the largest fold down, each to the smaller half.

    Args:
        counts: Observations per fold.

    Returns:
        Sorted fold indices of both halves; empty folds are in neither.

    Raises:
        InputError: Fewer than two folds have observations.

    Example:
        >>> nv.statistics.halves_of_folds(np.array([5, 3, 4, 2]))
        ([0, 3], [1, 2])
    """
    counts = np.asarray(counts)
    if (counts > 0).sum() < 2:
        raise InputError("split halves need at least two folds with prompts: all prompts share one cluster or fold")
    halves: tuple[list[int], list[int]] = ([], [])
    for fold in np.argsort(-counts, kind="stable"):
        if counts[fold] > 0:
            sizes = [int(counts[half].sum()) if half else 0 for half in halves]
            halves[sizes[1] < sizes[0]].append(int(fold))
    return sorted(halves[0]), sorted(halves[1])


@check_arguments
def split_half_agreement(
    first: Float[np.ndarray, "*dims"], second: Float[np.ndarray, "*dims"]
) -> Bool[np.ndarray, "*dims"]:
    """Test whether effects have the same sign, other than 0, in both halves.

    Args:
        first: Effects in one half.
        second: Effects in the other half.

    Example:
        >>> nv.statistics.split_half_agreement(np.array([0.3, -0.2]), np.array([0.1, 0.4])).tolist()
        [True, False]
    """
    return np.asarray(np.sign(first) * np.sign(second) > 0)


@check_arguments
def spearman(a: Num[np.ndarray, " n"], b: Num[np.ndarray, " n"]) -> tuple[float, float]:
    """Compute Spearman's rank correlation and its two-sided p-value (SciPy's).

    Args:
        a: First series.
        b: Second series.

    Raises:
        InputError: Fewer than three points, values that are not finite, or a constant input (undefined).

    Example:
        >>> rho, p = nv.statistics.spearman(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0]))
        >>> round(rho, 2), round(p, 2)
        (0.8, 0.2)
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    _check_correlation(a, b)
    result = spearmanr(a, b)
    return float(result.statistic), float(result.pvalue)


def _check_correlation(a: np.ndarray, b: np.ndarray) -> None:
    if len(a) != len(b) or len(a) < 3:
        raise InputError(f"a rank correlation needs two series of equal length, at least 3: got {len(a)} and {len(b)}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("a rank correlation needs finite values")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise InputError("a rank correlation of a constant series is undefined")


@check_arguments
def mantel(
    a: Num[np.ndarray, "v v"],
    b: Num[np.ndarray, "v v"],
    *,
    permutations: int = 9999,
    rng: np.random.Generator,
    alternative: Alternative = "two-sided",
    orders: Sequence[np.ndarray] | None = None,
) -> tuple[float, float]:
    """Run a Mantel test: Spearman correlation of two square matrices off the diagonal.

    Permutes rows and columns of `a` together (Mantel 1967); `a` need not be symmetric, both triangles count.
    `p = (1 + hits) / (1 + permutations)`.

    Args:
        a: Square matrix, for instance the leakage matrix D (steered x measured).
        b: Square matrix, for instance circular distances.
        permutations: Number of random permutations.
        rng: Random generator.
        alternative: `less` is the circle's prediction for D against distance: nearer values rise more.
        orders: Permutations for tests by enumeration; then `p = hits / len(orders)`.

    Returns:
        The correlation and its p-value.

    Raises:
        InputError: Shapes differ, fewer than three rows, entries off the diagonal that are not finite or are all equal.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> distances = nv.theories.SCHWARTZ.distances()
        >>> rho, p = nv.statistics.mantel(distances, distances + rng.normal(size=(10, 10)), permutations=99, rng=rng)
        >>> rho > 0.9, p
        (True, 0.01)
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[0] != a.shape[1] or len(a) < 3:
        raise InputError(
            f"the Mantel test needs two square matrices of one size, at least 3 x 3: got {a.shape}, {b.shape}"
        )
    off = ~np.eye(len(a), dtype=bool)
    _check_correlation(a[off], b[off])
    # every permutation has the same set of off-diagonal entries, so ranks are computed once
    ranks_a, ranks_b = np.zeros_like(a), np.zeros_like(b)
    for ranks, matrix in ((ranks_a, a), (ranks_b, b)):
        r = rankdata(matrix[off])
        ranks[off] = (r - r.mean()) / np.sqrt(((r - r.mean()) ** 2).sum())
    observed = float((ranks_a * ranks_b).sum())
    if orders is not None and any(
        sorted(np.asarray(order).ravel().tolist()) != list(range(len(a))) for order in orders
    ):
        raise InputError(f"orders are permutations of 0 to {len(a) - 1}, one array each")
    drawn = [rng.permutation(len(a)) for _ in range(permutations)] if orders is None else list(orders)
    null = np.array([(ranks_a[np.ix_(order, order)] * ranks_b).sum() for order in drawn])
    hits = {
        "two-sided": np.abs(null) >= abs(observed) - 1e-12,
        "greater": null >= observed - 1e-12,
        "less": null <= observed + 1e-12,
    }
    if alternative not in hits:
        raise InputError(f"unknown alternative {alternative!r}: {', '.join(hits)}")
    extra = 1 if orders is None else 0
    return observed, float((hits[alternative].sum() + extra) / (len(drawn) + extra))
