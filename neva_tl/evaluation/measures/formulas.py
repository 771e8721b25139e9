"""Leakage measures as pure functions on arrays: D, gain, leakage, NLR, NGL, circle test, coupling.

Notation: rows i are edits towards a steered value, columns j are measured values, `target[i]` is the column of i
itself. Leading axes `...` are bootstrap draws. Definitions are neva_tl's own (the paper's formulas are not public).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from neva_tl.core.theories import ValueTheory, theory_of
from neva_tl.evaluation.measures.cluster_sums import ClusterSums


def effects(sums: ClusterSums, weights: Sequence[Float[np.ndarray, "b _"]]) -> Float[np.ndarray, "b i j"]:
    """Compute D for each row of cluster weights; NaN where no item counts.

    `D[b, i, j] = sum_c w_bc change_ijc / sum_c w_bc count_ijc`. With all weights equal to 1 this is D on the data: the
    mean over items of the edited minus the unedited score of value j.

    Args:
        sums: Cluster sums.
        weights: Per measured value, `[b, c_j]` weights of its clusters.
    """
    columns = []
    for change, count, weight in zip(sums.change, sums.count, weights, strict=True):
        total = weight @ count.T
        with np.errstate(invalid="ignore", divide="ignore"):
            columns.append(np.where(total > 0, (weight @ change.T) / total, np.nan))
    return np.stack(columns, axis=-1)


def off_target(target: Int[np.ndarray, " i"], n_values: int) -> Bool[np.ndarray, "i j"]:
    """Return True where the measured value is not the steered one.

    Args:
        target: Column of each steered value.
        n_values: Number of measured values.
    """
    return np.asarray(target)[:, None] != np.arange(n_values)[None, :]


def gain(d: Float[np.ndarray, "... i j"], target: Int[np.ndarray, " i"]) -> Float[np.ndarray, "... i"]:
    """Return the gain, `gain_i = D[i, i]`.

    Args:
        d: D.
        target: Column of each steered value.
    """
    return d[..., np.arange(len(target)), target]


def off_target_mean(x: Float[np.ndarray, "... i j"], target: Int[np.ndarray, " i"]) -> Float[np.ndarray, "... i"]:
    """Return the mean over the measured values other than i; NaN if one of them is NaN.

    Args:
        x: Entries per steered and measured value.
        target: Column of each steered value.
    """
    mask = off_target(target, x.shape[-1])
    if x.shape[-1] < 2:
        return np.full(x.shape[:-1], np.nan)
    return np.where(mask, x, 0.0).sum(axis=-1) / mask.sum(axis=-1)


def leakage(d: Float[np.ndarray, "... i j"], target: Int[np.ndarray, " i"]) -> Float[np.ndarray, "... i"]:
    """Return plain leakage: `leakage_i = mean over j != i of max(0, D[i, j])`.

    Noise biases it upward; `crossfit_positive` removes this bias.

    Args:
        d: D.
        target: Column of each steered value.
    """
    return off_target_mean(np.maximum(d, 0.0), target)


def crossfit_positive(
    sums: ClusterSums,
    weights: Sequence[Float[np.ndarray, "b _"]],
    halves: Sequence[Bool[np.ndarray, "r _"]],
) -> Float[np.ndarray, "b i j"]:
    """Compute the positive part of D without upward bias, by cross-fitting over halves of the clusters.

    One half of the clusters gives the sign, the other the size: `P = average over halvings r and over both directions of
    1[D_A > 0] * D_B`. Its expectation is 0 where the true D is 0, and at most max(0, D) elsewhere. The average over
    several random halvings reduces the dependence on a single one.

    Args:
        sums: Cluster sums.
        weights: Per measured value, `[b, c_j]` weights of its clusters.
        halves: Per measured value, `[r, c_j]` random halvings of its clusters.
    """
    return positive_of_halves(effects_of_halves(sums, weights, halves))


def effects_of_halves(
    sums: ClusterSums,
    weights: Sequence[Float[np.ndarray, "b _"]],
    halves: Sequence[Bool[np.ndarray, "r _"]],
) -> Iterator[tuple[Float[np.ndarray, "b i j"], Float[np.ndarray, "b i j"]]]:
    """Yield D on the first and on the second half of the clusters, for each halving.

    Args:
        sums: Cluster sums.
        weights: Per measured value, `[b, c_j]` weights of its clusters.
        halves: Per measured value, `[r, c_j]` random halvings of its clusters.
    """
    for r in range(len(halves[0])):
        first = effects(sums, _on_half(weights, [h[r] for h in halves]))
        yield first, effects(sums, _on_half(weights, [~h[r] for h in halves]))


def positive_of_halves(
    pairs: Iterable[tuple[Float[np.ndarray, "b i j"], Float[np.ndarray, "b i j"]]],
) -> Float[np.ndarray, "b i j"]:
    """Compute the cross-fitted positive part from D on both halves; NaN where D is undefined in every halving.

    Args:
        pairs: D on the first and on the second half, for at least one halving.
    """
    total: np.ndarray | None = None
    used: np.ndarray | None = None
    for first, second in pairs:
        fitted = 0.5 * ((first > 0) * second + (second > 0) * first)
        defined = ~np.isnan(first + second)
        total = np.where(defined, fitted, 0.0) + (0.0 if total is None else total)
        used = defined.astype(float) + (0.0 if used is None else used)
    assert total is not None  # n_splits >= 1
    assert used is not None
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(used > 0, total / used, np.nan)


def _on_half(
    weights: Sequence[Float[np.ndarray, "b _"]], half: Sequence[Bool[np.ndarray, " _"]]
) -> list[Float[np.ndarray, "b _"]]:
    """Return the weights on one half of the clusters; equal weights and halves share one product."""
    products: dict[tuple[int, bytes], np.ndarray] = {}
    out = []
    for weight, in_half in zip(weights, half, strict=True):
        key = (id(weight), in_half.tobytes())
        if key not in products:
            products[key] = weight * in_half
        out.append(products[key])
    return out


def ratio(top: Float[np.ndarray, ...], bottom: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """Return `top / bottom`, and `inf` where the denominator is not positive (the worst possible outcome).

    Args:
        top: Numerator.
        bottom: Denominator.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.isnan(top + bottom), np.nan, np.where(bottom > 0, top / bottom, np.inf))


def leaving_share(
    positive: Float[np.ndarray, "... i j"],
    steered: Sequence[str],
    measured: Sequence[str],
    theory: ValueTheory | None = None,
) -> Float[np.ndarray, ...]:
    """Return NGL: the leakage out of the higher-order group of i, relative to evenly spread leakage.

    `NGL = sum_i sum_{j outside i's groups} P[i, j] / sum_i (n_outside_i / n_others_i) * sum_{j != i} P[i, j]`.
    Hedonism belongs to both its neighbour groups. 1 = no structure. NaN where the denominator is not positive, and for a
    theory without groups.

    Args:
        positive: Positive part P of D.
        steered: Names of the steered values.
        measured: Names of the measured values.
        theory: Theory of the values; None takes the one that the names imply.
    """
    theory = theory or theory_of([*measured, *steered])
    if not theory.has_groups:
        return np.full(positive.shape[:-2], np.nan)
    others = np.array([[a != b for b in measured] for a in steered])
    outside = np.array([[not theory.same_group(a, b) for b in measured] for a in steered])
    even = outside.sum(axis=1) / np.maximum(others.sum(axis=1), 1)
    leaving = np.where(outside, positive, 0.0).sum(axis=(-2, -1))
    expected = (np.where(others, positive, 0.0).sum(axis=-1) * even).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, leaving / expected, np.nan)


def circle_correlation(
    d: Float[np.ndarray, "b i j"],
    steered: Sequence[str],
    measured: Sequence[str],
    *,
    wedge: bool = False,
    theory: ValueTheory | None = None,
) -> Float[np.ndarray, " b"]:
    """Return the Spearman correlation of off-target D[i, j] with the circular distance of i and j, per draw.

    Negative = nearer values move together, as Schwartz's circle predicts.

    Args:
        d: D of each draw.
        steered: Names of the steered values.
        measured: Names of the measured values.
        wedge: Conformity and tradition share one position on the circle.
        theory: Theory of the values; None takes the one that the names imply.

    Returns:
        The correlations; NaN for a theory without such a circle, and for fewer than three off-target entries.
    """
    theory = theory or theory_of([*measured, *steered])
    rows, cols = _off_target_cells(steered, measured)
    if len(rows) < 3 or not _has_circle(theory, wedge):
        return np.full(len(d), np.nan)
    distance = theory.distances(wedge)[np.ix_(_index(theory, steered), _index(theory, measured))][rows, cols]
    return _spearman(d[:, rows, cols], distance[None, :])


def mantel_p(
    d: Float[np.ndarray, "i j"],
    steered: Sequence[str],
    measured: Sequence[str],
    *,
    wedge: bool = False,
    theory: ValueTheory | None = None,
    n_permutations: int = 9999,
    seed: int = 0,
) -> float:
    """Compute the two-sided Mantel p-value of `circle_correlation`, with values randomly relabelled.

    A relabelling permutes the positions of the values on the circle. Rows and columns move together, which preserves the
    dependence between entries that share a value. The p-value is `(1 + hits) / (1 + n)`, so it is never zero. The
    steered values may be a subset of the measured ones.

    Args:
        d: D.
        steered: Names of the steered values.
        measured: Names of the measured values.
        wedge: Conformity and tradition share one position on the circle.
        theory: Theory of the values; None takes the one that the names imply.
        n_permutations: Number n of relabellings.
        seed: Seed of the relabellings.

    Returns:
        The p-value; NaN for a theory without such a circle, for fewer than three off-target entries, or if one of them is NaN.
    """
    theory = theory or theory_of([*measured, *steered])
    rows, cols = _off_target_cells(steered, measured)
    if len(rows) < 3 or not _has_circle(theory, wedge) or np.isnan(d[rows, cols]).any():
        return float("nan")
    of_steered, of_measured = _index(theory, steered), _index(theory, measured)
    a, b = np.array(of_steered)[rows], np.array(of_measured)[cols]
    labels = np.array(sorted({*of_steered, *of_measured}))
    distance = theory.distances(wedge)
    rng = np.random.default_rng(seed)
    observed = abs(_spearman(d[None, rows, cols], distance[a, b][None, :])[0])
    relabelled = np.tile(np.arange(len(theory)), (n_permutations, 1))
    relabelled[:, labels] = rng.permuted(np.tile(labels, (n_permutations, 1)), axis=1)
    shuffled = distance[relabelled[:, a], relabelled[:, b]]
    null = np.abs(_spearman(d[None, rows, cols], shuffled))
    # a relabelling that maps the circle onto itself ties with the observed value up to rounding and counts as a hit
    return float((1 + np.sum(null >= observed - 1e-12)) / (1 + n_permutations))


def change_correlation(d: Float[np.ndarray, "i j"]) -> Float[np.ndarray, "j j"]:
    """Return the Pearson correlation between the changes of measured values across conditions (rows).

    Args:
        d: D.

    Returns:
        `[j, j]`; NaN for a value with the same change in all conditions.
    """
    centred = d - d.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (centred.T @ centred) / np.where(norm > 0, norm[:, None] * norm[None, :], np.nan)


def _has_circle(theory: ValueTheory, wedge: bool) -> bool:
    return theory.has_wedge if wedge else theory.has_circle


def _index(theory: ValueTheory, names: Sequence[str]) -> list[int]:
    return [theory.index(name) for name in names]


def _off_target_cells(steered: Sequence[str], measured: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = np.nonzero(np.array([[a != b for b in measured] for a in steered]))
    return rows, cols


def _spearman(x: Float[np.ndarray, "#b m"], y: Float[np.ndarray, "#b m"]) -> Float[np.ndarray, " b"]:
    """Return row-wise Spearman correlations, with mean ranks for ties; NaN for a row that is constant or has a NaN."""
    # rounded, so that means that differ only by summation order are ties
    rx, ry = rankdata(np.round(x, 12), axis=1), rankdata(np.round(y, 12), axis=1)
    rx, ry = rx - rx.mean(axis=1, keepdims=True), ry - ry.mean(axis=1, keepdims=True)
    scale = np.sqrt((rx**2).sum(axis=1) * (ry**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(scale > 0, (rx * ry).sum(axis=1) / scale, np.nan)
    return np.where(np.isnan(x).any(axis=1), np.nan, rho)
