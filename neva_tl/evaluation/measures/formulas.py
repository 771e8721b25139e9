"""The leakage measures as pure functions on arrays: D, gain, leakage, NLR, NGL, circle test, coupling.

Notation: rows i are edits towards a steered value, columns j are measured values, `target[i]` is the column of i
itself. Leading axes `...` are bootstrap draws. Definitions are neva_tl's own (the paper's formulas are not public).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from neva_tl.core.values import VALUES, distance_matrix, same_group
from neva_tl.evaluation.measures.cluster_sums import ClusterSums


def effects(sums: ClusterSums, weights: Sequence[Float[np.ndarray, "b _"]]) -> Float[np.ndarray, "b i j"]:
    """D for each row of cluster weights: `D[b, i, j] = sum_c w_bc change_ijc / sum_c w_bc count_ijc`; NaN where no
    item counts.

    Weights of one give D itself: the mean over items of edited - unedited score of value j.
    """
    columns = []
    for change, count, weight in zip(sums.change, sums.count, weights, strict=True):
        total = weight @ count.T
        with np.errstate(invalid="ignore", divide="ignore"):
            columns.append(np.where(total > 0, (weight @ change.T) / total, np.nan))
    return np.stack(columns, axis=-1)


def off_target(target: Int[np.ndarray, " i"], n_values: int) -> Bool[np.ndarray, "i j"]:
    """True where the measured value is not the steered one."""
    return np.asarray(target)[:, None] != np.arange(n_values)[None, :]


def gain(d: Float[np.ndarray, "... i j"], target: Int[np.ndarray, " i"]) -> Float[np.ndarray, "... i"]:
    """`gain_i = D[i, i]`."""
    return d[..., np.arange(len(target)), target]


def off_target_mean(x: Float[np.ndarray, "... i j"], target: Int[np.ndarray, " i"]) -> Float[np.ndarray, "... i"]:
    """Mean over the measured values other than i. NaN (an undefined entry) makes the mean NaN.

    Nothing is dropped in silence.
    """
    mask = off_target(target, x.shape[-1])
    if x.shape[-1] < 2:
        return np.full(x.shape[:-1], np.nan)
    return np.where(mask, x, 0.0).sum(axis=-1) / mask.sum(axis=-1)


def leakage(d: Float[np.ndarray, "... i j"], target: Int[np.ndarray, " i"]) -> Float[np.ndarray, "... i"]:
    """Plain leakage: `leakage_i = mean over j != i of max(0, D[i, j])`. Biased upward by noise.

    See `crossfit_positive`.
    """
    return off_target_mean(np.maximum(d, 0.0), target)


def crossfit_positive(
    sums: ClusterSums,
    weights: Sequence[Float[np.ndarray, "b _"]],
    halves: Sequence[Bool[np.ndarray, "r _"]],
) -> Float[np.ndarray, "b i j"]:
    """Positive part of D without its upward bias: the sign is read on one half of the clusters, the size on the other.

    `P = average over halvings r and over both directions of 1[D_A > 0] * D_B`; expectation 0 where the true D is 0,
    and at most max(0, D) elsewhere. Several random halvings are averaged, so that the answer does not hang on one of
    them.
    """
    return positive_of_halves(effects_of_halves(sums, weights, halves))


def effects_of_halves(
    sums: ClusterSums,
    weights: Sequence[Float[np.ndarray, "b _"]],
    halves: Sequence[Bool[np.ndarray, "r _"]],
) -> Iterator[tuple[Float[np.ndarray, "b i j"], Float[np.ndarray, "b i j"]]]:
    """D on the first and on the second half of the clusters, for each halving."""
    for r in range(len(halves[0])):
        first = effects(sums, _on(weights, [h[r] for h in halves]))
        yield first, effects(sums, _on(weights, [~h[r] for h in halves]))


def positive_of_halves(
    pairs: Iterable[tuple[Float[np.ndarray, "b i j"], Float[np.ndarray, "b i j"]]],
) -> Float[np.ndarray, "b i j"]:
    """The cross-fitted positive part from D on both halves of each halving (at least one); NaN where none defines it."""
    total: np.ndarray | None = None
    used: np.ndarray | None = None
    for first, second in pairs:
        fitted = 0.5 * ((first > 0) * second + (second > 0) * first)
        defined = ~np.isnan(first + second)
        total = np.where(defined, fitted, 0.0) + (0.0 if total is None else total)
        used = defined.astype(float) + (0.0 if used is None else used)
    assert total is not None and used is not None  # n_splits >= 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(used > 0, total / used, np.nan)


def _on(
    weights: Sequence[Float[np.ndarray, "b _"]], half: Sequence[Bool[np.ndarray, " _"]]
) -> list[Float[np.ndarray, "b _"]]:
    """Weights on one half of the clusters; measured values that share weights and half share the product."""
    made: dict[tuple[int, bytes], np.ndarray] = {}
    out = []
    for weight, there in zip(weights, half, strict=True):
        key = (id(weight), there.tobytes())
        if key not in made:
            made[key] = weight * there
        out.append(made[key])
    return out


def ratio(top: Float[np.ndarray, ...], bottom: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """`top / bottom`, `inf` where the denominator is not positive: such a draw speaks for "as bad as can be"."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.isnan(top + bottom), np.nan, np.where(bottom > 0, top / bottom, np.inf))


def leaving_share(
    positive: Float[np.ndarray, "... i j"], steered: Sequence[str], measured: Sequence[str]
) -> Float[np.ndarray, ...]:
    """NGL: leakage that leaves i's higher-order group, over what would leave it if each i's leakage were even over
    the others.

    `NGL = sum_i sum_{j outside i's groups} P[i, j] / sum_i (n_outside_i / n_others_i) * sum_{j != i} P[i, j]`.
    Hedonism belongs to both its neighbour groups. 1 = no structure. NaN where the denominator is not positive.
    """
    others = np.array([[a != b for b in measured] for a in steered])
    outside = np.array([[not same_group(a, b) for b in measured] for a in steered])
    even = outside.sum(axis=1) / np.maximum(others.sum(axis=1), 1)
    leaving = np.where(outside, positive, 0.0).sum(axis=(-2, -1))
    expected = (np.where(others, positive, 0.0).sum(axis=-1) * even).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, leaving / expected, np.nan)


def circle_correlation(
    d: Float[np.ndarray, "b i j"], steered: Sequence[str], measured: Sequence[str], *, wedge: bool = False
) -> Float[np.ndarray, " b"]:
    """Spearman correlation of the off-target D[i, j] with the circular distance between i and j, for each draw.

    Negative = nearer values move together, as Schwartz's circle says.
    """
    rows, cols = _off_target_cells(steered, measured)
    distance = distance_matrix(wedge)[np.ix_(_index(steered), _index(measured))][rows, cols]
    return _spearman(d[:, rows, cols], distance[None, :])


def mantel_p(
    d: Float[np.ndarray, "i j"],
    steered: Sequence[str],
    measured: Sequence[str],
    *,
    wedge: bool = False,
    n_permutations: int = 9999,
    seed: int = 0,
) -> float:
    """Two-sided Mantel p-value of `circle_correlation`: the ten values' places on the circle are relabelled at random.

    Rows and columns move together, so the dependence between entries that share a value is kept. `(1 + hits) / (1 +
    n)`, which is never zero. Works when only some values were steered (the rows are then a subset of the columns'
    labels).
    """
    rows, cols = _off_target_cells(steered, measured)
    if len(rows) < 3 or np.isnan(d[rows, cols]).any():
        return float("nan")
    a, b = np.array(_index(steered))[rows], np.array(_index(measured))[cols]
    labels = np.array(sorted(set(_index(steered)) | set(_index(measured))))
    distance = distance_matrix(wedge)
    rng = np.random.default_rng(seed)
    observed = abs(_spearman(d[None, rows, cols], distance[a, b][None, :])[0])
    place = np.tile(np.arange(len(VALUES)), (n_permutations, 1))
    place[:, labels] = rng.permuted(np.tile(labels, (n_permutations, 1)), axis=1)
    shuffled = distance[place[:, a], place[:, b]]
    null = np.abs(_spearman(d[None, rows, cols], shuffled))
    # a relabelling that maps the circle onto itself ties with the observed value up to rounding: it counts as a hit
    return float((1 + np.sum(null >= observed - 1e-12)) / (1 + n_permutations))


def change_correlation(d: Float[np.ndarray, "i j"]) -> Float[np.ndarray, "j j"]:
    """Pearson correlation between measured values of their changes across conditions (rows).

    NaN where one never changes.
    """
    centred = d - d.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (centred.T @ centred) / np.where(norm > 0, norm[:, None] * norm[None, :], np.nan)


def _index(names: Sequence[str]) -> list[int]:
    return [VALUES.index(name) for name in names]


def _off_target_cells(steered: Sequence[str], measured: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = np.nonzero(np.array([[a != b for b in measured] for a in steered]))
    return rows, cols


def _spearman(x: Float[np.ndarray, "#b m"], y: Float[np.ndarray, "#b m"]) -> Float[np.ndarray, " b"]:
    """Row-wise Spearman correlation with ties at their mean rank; NaN where a row is constant or holds NaN."""
    # rounded: means that differ by summation order alone are ties
    rx, ry = rankdata(np.round(x, 12), axis=1), rankdata(np.round(y, 12), axis=1)
    rx, ry = rx - rx.mean(axis=1, keepdims=True), ry - ry.mean(axis=1, keepdims=True)
    scale = np.sqrt((rx**2).sum(axis=1) * (ry**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(scale > 0, (rx * ry).sum(axis=1) / scale, np.nan)
    return np.where(np.isnan(x).any(axis=1), np.nan, rho)
