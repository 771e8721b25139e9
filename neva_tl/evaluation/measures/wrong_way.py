"""Share of test items that an edit pushes the wrong way: down, where it should raise the steered value.

A mean gain hides how it is spread: steering may raise most items and lower the rest. Tan et al. (2024, arXiv 2407.12404) report
the share of items that respond in the opposite direction; the handling of ties and the interval are ours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from neva_tl.core.statistics import wilson
from neva_tl.evaluation.measures.estimate import Estimate, interval
from neva_tl.evaluation.measures.headline import target_draws
from neva_tl.evaluation.measures.responses import Responses


def pushed_down(base: Float[np.ndarray, " n"], edited: Float[np.ndarray, "i n"]) -> Float[np.ndarray, "i n"]:
    """Return 1 where the edit lowers an item's score, .5 where it leaves it equal, 0 where it raises it.

    A tie counts half, so that an edit without any effect has a share of .5 (not a perfect 0), and exchanging the two conditions
    turns a share s into 1 - s. An item without a score in either condition is NaN.

    Args:
        base: Unedited scores of the items of a value.
        edited: Scores of the same items under each edit.
    """
    change = edited - base[None, :]
    return np.where(np.isnan(change), np.nan, (change < 0) + 0.5 * (change == 0))


def wrong_way(
    responses: Responses, *, seed: int, n_boot: int, level: float = 0.95
) -> tuple[dict[str, Estimate], Estimate]:
    """Compute the share of items pushed the wrong way for each steered value, and its mean over them.

    For steered value i: mean over its test items of `pushed_down` of the scores of i. Items are paired: pairs or statements of a
    log-probability judge by item, texts by prompt and sample. Intervals are those of the gain (the same draws of clusters);
    where all items move one way, resampling them shows nothing, and Wilson's interval with the clusters as trials takes
    its place.

    Args:
        responses: The item scores.
        seed: Seed of the draws.
        n_boot: Bootstrap draws.
        level: Coverage of the intervals.

    Returns:
        Steered value -> share, and the mean share.
    """
    falls = _falls(responses)
    draws = target_draws(falls, seed=seed, n_boot=n_boot)
    items = [_usable(falls, i) for i in range(len(responses.steered))]
    topics = [set(falls.clusters[j][rows].tolist()) for j, rows in zip(falls.target, items, strict=True)]
    counts = [int(rows.sum()) for rows in items]
    shares = {
        name: _estimate(draws[:, i], counts[i], len(topics[i]), level) for i, name in enumerate(responses.steered)
    }
    return shares, _estimate(draws.mean(axis=-1), sum(counts), len(set().union(*topics)), level)


def wrong_way_draws(responses: Responses, *, seed: int, n_boot: int) -> Float[np.ndarray, "b i"]:
    """Compute the share of items pushed the wrong way on the data (row 0) and on the draws of D.

    Args:
        responses: The item scores.
        seed: Seed of the draws.
        n_boot: Bootstrap draws.
    """
    return target_draws(_falls(responses), seed=seed, n_boot=n_boot)


def _falls(responses: Responses) -> Responses:
    """Return responses whose change is `pushed_down`."""
    down = tuple(pushed_down(base, edited) for base, edited in zip(responses.base, responses.edited, strict=True))
    return replace(responses, base=tuple(np.zeros_like(base) for base in responses.base), edited=down)


def _usable(falls: Responses, i: int) -> np.ndarray:
    """Return the items of a steered value that count."""
    j = int(falls.target[i])
    usable: np.ndarray = ~np.isnan(falls.edited[j][i])
    return usable if falls.excluded is None else usable & ~falls.excluded[j][i]


def _estimate(draws: Float[np.ndarray, " b"], items: int, topics: int, level: float) -> Estimate:
    share = interval(float(draws[0]), draws[1:], items, level, bounds=(0.0, 1.0))
    if share.est in (0.0, 1.0) and share.lo == share.hi == share.est:
        low, high = wilson(share.est * topics, topics, level)
        return replace(share, lo=min(low, share.est), hi=max(high, share.est))
    return share
