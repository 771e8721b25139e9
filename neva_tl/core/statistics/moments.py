"""Count, mean and M2 (sum of squared deviations): the only thing a streaming collector has to keep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Num

from neva_tl.core.errors import InputError


class Moments(NamedTuple):
    """Moments of a sample.

    Attributes:
        n: number of observations, shared by all trailing dimensions.
        mean: mean over the observations.
        m2: sum of squared deviations from that mean (variance times n - 1).
    """

    n: int
    mean: np.ndarray
    m2: np.ndarray


def moments(x: Num[np.ndarray, "n ..."]) -> Moments:
    """Moments along the first axis, in float64.

    Raises:
        InputError: there is no observation.
    """
    if not len(x):
        raise InputError("no observations: moments need at least one row")
    x = np.asarray(x, dtype=np.float64)
    mean = x.mean(axis=0)
    return Moments(len(x), np.asarray(mean), np.asarray(((x - mean) ** 2).sum(axis=0)))


def merge_moments(parts: Iterable[tuple[int, Any, Any]]) -> Moments:
    """Moments of the union of several samples, in float64; parts without observations are skipped.

    `mean = a + (b - a) n_b / n`, `M2 = M2_a + M2_b + (b - a)^2 n_a n_b / n` (Chan, Golub and LeVeque 1979).

    Raises:
        InputError: all parts are empty.
    """
    merged: Moments | None = None
    for n, mean, m2 in parts:
        if n == 0:
            continue
        part = Moments(int(n), np.asarray(mean, dtype=np.float64), np.asarray(m2, dtype=np.float64))
        if merged is None:
            merged = part
            continue
        total = merged.n + part.n
        step = part.mean - merged.mean
        merged = Moments(
            total,
            np.asarray(merged.mean + step * (part.n / total)),
            np.asarray(merged.m2 + part.m2 + step**2 * (merged.n * part.n / total)),
        )
    if merged is None:
        raise InputError("no observations: every part to merge is empty")
    return merged


def check_moments(sample: tuple[int, Any, Any], what: str = "sample", least: int = 2) -> Moments:
    """The moments as float64, or an error that says where they are bad.

    Args:
        sample: `(n, mean, M2)`.
        what: a name for the message, such as `benevolence (+)`.
        least: observations needed.

    Raises:
        InputError: fewer than `least` observations, or a mean or M2 that is not finite (layer and neuron are named when
            the trailing dimensions are two).
    """
    n, mean, m2 = int(sample[0]), np.asarray(sample[1], dtype=np.float64), np.asarray(sample[2], dtype=np.float64)
    if n < least:
        raise InputError(f"{what} has {n} observation{'' if n == 1 else 's'}: at least {least} are needed")
    for name, array in (("mean", mean), ("M2", m2)):
        bad = ~np.isfinite(array)
        if bad.any():
            at = np.argwhere(bad)[0]
            place = f"layer {at[0]}, neuron {at[1]}" if len(at) == 2 else f"index {tuple(int(i) for i in at)}"
            raise InputError(
                f"the {name} of {what} is not finite at {place} ({int(bad.sum())} in all): collect again, in float32"
            )
    if (m2 < 0).any():
        raise InputError(f"the M2 of {what} is negative somewhere: these are not moments")
    return Moments(n, mean, m2)
