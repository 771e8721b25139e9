"""Multiple testing: false discovery rate, and familywise error by sign flips of clusters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num
from scipy.stats import false_discovery_control

from neva_tl.core.arguments import check_arguments
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError

#: Bytes of flipped statistics in memory at a time.
_BUDGET = 8 * 2**20


@check_arguments
def benjamini_hochberg(p: Float[np.ndarray, "*dims"]) -> Float[np.ndarray, "*dims"]:
    """Compute q-values (Benjamini and Hochberg 1995) over all entries, in the input's shape.

    Args:
        p: The p-values of one family.

    Raises:
        InputError: A p-value is missing or outside [0, 1].

    Example:
        >>> nv.statistics.benjamini_hochberg(np.array([0.001, 0.02, 0.2])).round(3)
        array([0.003, 0.03 , 0.2  ])
    """
    p = np.asarray(p, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise InputError("a p-value is missing or outside [0, 1]: q-values would be wrong for all of them")
    if not p.size:
        return p
    return np.asarray(false_discovery_control(p.ravel(), method="bh")).reshape(p.shape)


class StepUp(NamedTuple):
    """Rejections of the step-up rule.

    Attributes:
        largest: Largest rejected p-value; -1 without rejections.
        p: Rejected p-values, ascending.
        q: Their q-values.

    Example:
        >>> nv.statistics.step_up_p(np.array([0.001, 0.02, 0.2]), alpha=0.05, family=3).q.round(3)
        array([0.003, 0.03 ])
    """

    largest: float
    p: np.ndarray
    q: np.ndarray

    def __repr__(self) -> str:
        return brief(self)


@check_arguments
def step_up_p(p: Float[np.ndarray, " n"], alpha: float, family: int) -> StepUp:
    """Apply Benjamini and Hochberg's step-up rule to the smaller p-values of a family.

    Args:
        p: At least every p-value of the family up to alpha, which are all that the rule can reject; any subset of the larger
            ones may be included.
        alpha: False discovery rate, at most 1.
        family: Number of hypotheses in the family, including those missing from p.

    Returns:
        The rejections with the q-values of the full family: for q <= alpha, the minimum over larger p-values that defines q
        occurs at a p-value of at most alpha.

    Raises:
        InputError: More p-values than hypotheses, or a p-value that is missing or outside [0, 1].

    Example:
        >>> largest, p, q = nv.statistics.step_up_p(np.array([0.001, 0.02, 0.2]), alpha=0.05, family=3)
        >>> float(largest), p.tolist()
        (0.02, [0.001, 0.02])
    """
    if len(p) > family:
        raise InputError(f"{len(p)} p-values of a family of {family}: count every hypothesis tested")
    if not ((p >= 0) & (p <= 1)).all():
        raise InputError("a p-value is missing or outside [0, 1]: q-values would be wrong for all of them")
    ranked = np.sort(p)
    q = ranked * (family / np.arange(1, len(p) + 1))
    q = np.minimum(np.minimum.accumulate(q[::-1])[::-1], 1.0)
    count = int(np.searchsorted(q, alpha, side="right"))
    return StepUp(float(ranked[count - 1]) if count else -1.0, ranked[:count], q[:count])


@check_arguments
def cluster_means(x: Num[np.ndarray, "n ..."], clusters: np.ndarray) -> tuple[Float[np.ndarray, "m ..."], np.ndarray]:
    """Compute the mean of the rows of each cluster.

    Args:
        x: One row per observation.
        clusters: Cluster name of each row.

    Returns:
        The means, and the sorted cluster names in the same order.

    Raises:
        InputError: x and clusters differ in length.

    Example:
        >>> means, names = nv.statistics.cluster_means(np.array([1.0, 3.0, 5.0]), np.array(["a", "a", "b"]))
        >>> means.tolist(), names.tolist()
        ([2.0, 5.0], ['a', 'b'])
    """
    names, index = np.unique(np.asarray(clusters).astype(str), return_inverse=True)
    if len(index) != len(x):
        raise InputError(f"{len(x)} rows but {len(index)} cluster names")
    out = np.zeros((len(names), *x.shape[1:]))
    np.add.at(out, index, x)
    return out / np.bincount(index).reshape(-1, *[1] * (x.ndim - 1)), names


@check_arguments
def sign_flip_max_t(
    effects: Num[np.ndarray, "m k"],
    shift: Num[np.ndarray, " k"] | float = 0.0,
    *,
    flips: int = 1000,
    rng: np.random.Generator,
    signs: Num[np.ndarray, "b m"] | None = None,
) -> Float[np.ndarray, " k"]:
    """Compute familywise p-values by flipping the signs of whole clusters (step-down max-T).

    Algorithm 4.1 of Westfall and Young (1993).
    The cluster effects `x` of column k (mean of plus minus mean of minus, per cluster) move towards zero by `shift_k` and
    become `x'`; the statistic is `T = sign(mean x) * sum(x') / ||x'||`, which is monotone in the one-sample t of the shifted
    effects because sign flips do not change `||x'||`. Each draw flips all columns of a cluster together, which preserves the
    correlation between neurons. Null: cluster effects symmetric around an effect of at most `shift` in size.
    `p = (1 + hits) / (1 + draws)`.

    Args:
        effects: One row per cluster, one column per hypothesis. All hypotheses of the family are required: omitting
            some after looking at the data invalidates the p-values.
        shift: Smallest effect of interest in the units of `effects` (0: the plain two-sided sign-flip test).
        flips: Number of draws; with m clusters the smallest possible p-value is `2^-(m-1)`.
        rng: Random generator.
        signs: Draws (+1 and -1) for tests and exact enumeration; `flips` and `rng` are then unused and
            `p = hits / draws`, because the enumeration includes the identity.

    Raises:
        InputError: Fewer than two clusters, effects that are not finite, a shift or signs of another size, or fewer than 100
            random draws.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> effects = rng.normal(size=(20, 3)) + np.array([2.0, 0.0, 0.0])  # 20 clusters, 3 neurons
        >>> (nv.statistics.sign_flip_max_t(effects, rng=rng) < 0.05).tolist()
        [True, False, False]
    """
    x = np.asarray(effects, dtype=np.float64)
    if np.ndim(shift) and np.shape(shift) != x.shape[1:]:
        raise InputError(
            f"shift has {np.size(shift)} numbers for {x.shape[1]} columns: give one number, or one per column"
        )
    if signs is not None and np.shape(signs)[1:] != x.shape[:1]:
        raise InputError(f"signs has shape {np.shape(signs)}: it needs one column for each of the {len(x)} clusters")
    if len(x) < 2:
        raise InputError(f"sign flips need at least two clusters: there are {len(x)}")
    if not np.isfinite(x).all():
        raise InputError(f"cluster effects are not finite in column {int(np.argwhere(~np.isfinite(x))[0, 1])}")
    if signs is None and flips < 100:
        raise InputError(f"{flips} sign flips are too few for a p-value: use at least 100 (1000 by default)")
    if not x.shape[1]:
        return np.zeros(0)
    direction = np.sign(x.mean(axis=0))
    moved = x - direction * shift
    norm = np.sqrt((moved**2).sum(axis=0))
    unit = np.divide(moved, norm, out=np.zeros_like(moved), where=norm > 0)
    observed = direction * unit.sum(axis=0)
    # weakest first, so that running maxima along a row are the maxima of the step-down families
    order = np.argsort(observed, kind="stable")
    # float32 suffices for comparing; its round-off must not break ties with the observation (the identity is a draw)
    ranked = (observed[order] - 1e-5).astype(np.float32)
    columns = np.ascontiguousarray(unit[:, order], dtype=np.float32)
    hits = np.zeros(x.shape[1], dtype=np.int64)
    draws = flips if signs is None else len(signs)
    step = max(1, _BUDGET // (4 * x.shape[1]))
    for start in range(0, draws, step):
        stop = min(start + step, draws)
        chunk = rng.choice((-1.0, 1.0), size=(stop - start, len(x))) if signs is None else signs[start:stop]
        drawn = np.asarray(chunk, dtype=np.float32) @ columns
        np.abs(drawn, out=drawn)
        np.maximum.accumulate(drawn, axis=1, out=drawn)
        hits += (drawn >= ranked).sum(axis=0)
    extra = 1 if signs is None else 0
    # step-down: a weaker hypothesis never has a smaller p-value than a stronger one
    p = np.maximum.accumulate(((hits + extra) / (draws + extra))[::-1])[::-1]
    out = np.empty_like(p)
    out[order] = p
    return out
