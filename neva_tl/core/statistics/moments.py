"""Moments (count, mean and sum of squared deviations M2): the state of a streaming collector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Num

from neva_tl.core.arguments import check_arguments
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError


class Moments(NamedTuple):
    """Moments of a sample.

    Attributes:
        n: Number of observations, shared by all trailing dimensions.
        mean: Mean over the observations.
        m2: Sum of squared deviations from that mean (variance times n - 1).

    Example:
        >>> sample = nv.statistics.moments(np.array([[1.0], [2.0], [6.0]]))
        >>> sample.n, sample.mean, sample.m2
        (3, array([3.]), array([14.]))
    """

    n: int
    mean: np.ndarray
    m2: np.ndarray

    def __repr__(self) -> str:
        return brief(self)


@check_arguments
def moments(x: Num[np.ndarray, "n ..."]) -> Moments:
    """Compute moments along the first axis, in float64.

    Args:
        x: One row per observation.

    Raises:
        InputError: x has no rows.

    Example:
        >>> sample = nv.statistics.moments(np.array([[1.0, 10.0], [3.0, 20.0]]))
        >>> sample.n, sample.mean
        (2, array([ 2., 15.]))
    """
    if not len(x):
        raise InputError("no observations: moments need at least one row")
    x = np.asarray(x, dtype=np.float64)
    mean = x.mean(axis=0)
    return Moments(len(x), np.asarray(mean), np.asarray(((x - mean) ** 2).sum(axis=0)))


@check_arguments
def merge_moments(parts: Iterable[tuple[int, Any, Any]]) -> Moments:
    """Compute the moments of the union of several samples, in float64.

    `mean = a + (b - a) n_b / n`, `M2 = M2_a + M2_b + (b - a)^2 n_a n_b / n` (Chan, Golub and LeVeque 1979).

    Args:
        parts: Moments of disjoint samples; empty samples are skipped.

    Raises:
        InputError: All samples are empty.

    Example:
        >>> first, second = nv.statistics.moments(np.array([[1.0], [2.0]])), nv.statistics.moments(np.array([[6.0]]))
        >>> merged = nv.statistics.merge_moments([first, second])
        >>> merged.n, merged.mean
        (3, array([3.]))
    """
    merged: Moments | None = None
    for n, mean, m2 in parts:
        if n == 0:
            continue
        sample = Moments(int(n), np.asarray(mean, dtype=np.float64), np.asarray(m2, dtype=np.float64))
        if merged is None:
            merged = sample
            continue
        total = merged.n + sample.n
        step = sample.mean - merged.mean
        merged = Moments(
            total,
            np.asarray(merged.mean + step * (sample.n / total)),
            np.asarray(merged.m2 + sample.m2 + step**2 * (merged.n * sample.n / total)),
        )
    if merged is None:
        raise InputError("no observations: every sample to merge is empty")
    return merged


@check_arguments
def check_moments(sample: tuple[int, Any, Any], what: str = "sample", least: int = 2) -> Moments:
    """Return moments as float64 after checking them.

    Args:
        sample: `(n, mean, M2)`.
        what: Name of the sample in messages, such as `benevolence (+)`.
        least: Smallest number of observations.

    Raises:
        InputError: Fewer than `least` observations, a negative M2, or a mean or M2 that is not finite (the message names
            layer and neuron when there are two trailing dimensions).

    Example:
        >>> nv.statistics.check_moments((3, np.array([2.0]), np.array([1.5]))).n
        3
    """
    n, mean, m2 = int(sample[0]), np.asarray(sample[1], dtype=np.float64), np.asarray(sample[2], dtype=np.float64)
    if n < least:
        raise InputError(f"{what} has {n} observation{'' if n == 1 else 's'}: at least {least} are needed")
    for name, array in (("mean", mean), ("M2", m2)):
        bad = ~np.isfinite(array)
        if bad.any():
            index = np.argwhere(bad)[0]
            position = f"layer {index[0]}, neuron {index[1]}" if len(index) == 2 else f"index {tuple(map(int, index))}"
            raise InputError(
                f"the {name} of {what} is not finite at {position} ({int(bad.sum())} in all): collect again, in float32"
            )
    if (m2 < 0).any():
        raise InputError(f"the M2 of {what} is negative somewhere: these are not moments")
    return Moments(n, mean, m2)
