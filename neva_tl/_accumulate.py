"""Moments under construction: what `collect`, `from_samples` and `merge` update chunk by chunk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.statistics import Moments, merge_moments, moments

N_FOLDS = 8
POLES = ("+", "-")

#: Site -> its arrays (mean, M2, share above 0) on a (value, pole, fold) grid. The share is named alike in pooled chunks.
SITES: dict[str, tuple[str, str, str]] = {
    "post": ("mean", "m2", "positive"),
    "gate": ("gate_mean", "gate_m2", "gate_positive"),
}
#: Arrays of pair differences, on a (value, fold) grid.
_DIFFS = ("diff_mean", "diff_m2")


def fold_of(cluster: str) -> int:
    """Fold of a cluster: sha256 of its name modulo 8, so that it is the same on every machine."""
    return int.from_bytes(hashlib.sha256(str(cluster).encode()).digest()[:8], "big") % N_FOLDS


def merge_folds(n: np.ndarray, mean: np.ndarray, m2: np.ndarray, fold: int | Sequence[int] | None) -> Moments:
    """Moments over all folds (the first axis) or the given ones; zeros with a count of 0 where those hold nothing.

    The rule and the order of `merge_moments`, to the last bit, in three buffers: selection merges every neuron's folds.
    """
    chosen = range(len(n)) if fold is None else ([fold] if isinstance(fold, int) else list(fold))
    full = [f for f in chosen if n[f]]
    if not full:
        return Moments(0, np.zeros(mean.shape[1:]), np.zeros(m2.shape[1:]))
    total = int(n[full[0]])
    merged, squares = mean[full[0]].astype(np.float64), m2[full[0]].astype(np.float64)
    step = np.empty_like(merged)
    for f in full[1:]:
        before, count = total, int(n[f])
        total += count
        np.subtract(mean[f], merged, out=step)
        squares += m2[f]
        merged += step * (count / total)
        np.multiply(step, step, out=step)
        step *= before * count / total
        squares += step
    return Moments(total, merged, squares)


class Accumulator:
    """The arrays of `ActivationStats` while they grow: float32 storage, float64 arithmetic per update.

    Attributes:
        values: in circle order.
        arrays: by the names and with the shapes of `ActivationStats`; the gate's are absent where it is not collected.
    """

    def __init__(self, values: tuple[str, ...], arrays: dict[str, np.ndarray]) -> None:
        self.values = values
        self.arrays = arrays

    @classmethod
    def empty(cls, values: tuple[str, ...], layers: int, width: int, d_model: int, *, gated: bool) -> Accumulator:
        """Nothing counted yet."""
        pole_grid, pair_grid = (len(values), len(POLES), N_FOLDS), (len(values), N_FOLDS)
        names = [name for site, arrays in SITES.items() if gated or site != "gate" for name in arrays]
        arrays = {name: np.zeros((*pole_grid, layers, width), dtype=np.float32) for name in names}
        arrays |= {name: np.zeros((*pair_grid, layers, width), dtype=np.float32) for name in _DIFFS}
        arrays["n"] = np.zeros(pole_grid, dtype=np.int64)
        arrays["diff_n"] = np.zeros(pair_grid, dtype=np.int64)
        arrays["resid"] = np.zeros((len(values), len(POLES), layers, d_model), dtype=np.float32)
        return cls(values, arrays)

    def add(self, table: pd.DataFrame, pooled: Mapping[str, np.ndarray]) -> None:
        """Join pooled activations to the moments.

        Args:
            table: `value`, `pole`, `fold`, `pair_id` of n rows; both rows of a pair must come in one call.
            pooled: `post`, `positive` (and `gate`, `gate_positive`) `[n, l, k]`, `resid` `[n, l, d]`.
        """
        table = table.reset_index(drop=True)
        for key, group in table.groupby(["value", "pole", "fold"], sort=False):
            at = (self.values.index(str(key[0])), POLES.index(str(key[1])), int(group["fold"].iloc[0]))
            self._add_pole(at, group.index.to_numpy(), pooled)
        paired = table[table["pair_id"].notna()]
        for key, group in paired.groupby(["value", "fold"], sort=False):
            at_pair = (self.values.index(str(key[0])), int(group["fold"].iloc[0]))
            wide = group.assign(row=group.index).pivot(index="pair_id", columns="pole", values="row")
            if not set(POLES) <= set(wide.columns):
                continue
            # whole pairs only: shuffled or planted labels may leave one without its partner
            wide = wide.dropna().astype(int)
            if len(wide):
                diff = pooled["post"][wide["+"]].astype(np.float64) - pooled["post"][wide["-"]]
                self._add_pairs(at_pair, moments(diff))

    def merge(self, other: Mapping[str, np.ndarray]) -> None:
        """Join the arrays of finished statistics of the same values and shapes."""
        a = self.arrays
        pole_n, other_n = a["n"].sum(axis=-1), other["n"].sum(axis=-1)
        share = (other_n / np.maximum(pole_n + other_n, 1))[..., None, None]
        a["resid"] = (a["resid"] * (1 - share) + other["resid"] * share).astype(np.float32)
        for at in np.ndindex(*a["n"].shape):
            n_a, n_b = int(a["n"][at]), int(other["n"][at])
            if n_b == 0:
                continue
            for _, (mean, m2, positive) in self._sites():
                self._join((mean, m2), at, n_a, (n_b, other[mean][at], other[m2][at]))
                a[positive][at] = (a[positive][at] * n_a + other[positive][at] * n_b) / (n_a + n_b)
            a["n"][at] = n_a + n_b
        for at in np.ndindex(*a["diff_n"].shape):
            if n_b := int(other["diff_n"][at]):
                self._add_pairs(at, (n_b, other["diff_mean"][at], other["diff_m2"][at]))

    def _add_pole(self, at: tuple[int, int, int], rows: np.ndarray, pooled: Mapping[str, np.ndarray]) -> None:
        a = self.arrays
        n_before, pole_before = int(a["n"][at]), int(a["n"][at[:2]].sum())
        total = n_before + len(rows)
        resid = pooled["resid"][rows].astype(np.float64).sum(axis=0)
        a["resid"][at[:2]] = (a["resid"][at[:2]] * pole_before + resid) / (pole_before + len(rows))
        for site, (mean, m2, positive) in self._sites():
            self._join((mean, m2), at, n_before, moments(pooled[site][rows]))
            a[positive][at] = (a[positive][at] * n_before + pooled[positive][rows].sum(axis=0)) / total
        a["n"][at] = total

    def _add_pairs(self, at: tuple[int, ...], part: tuple[int, Any, Any]) -> None:
        n_before = int(self.arrays["diff_n"][at])
        self._join(_DIFFS, at, n_before, part)
        self.arrays["diff_n"][at] = n_before + part[0]

    def _join(self, names: tuple[str, str], at: tuple[int, ...], n_before: int, part: tuple[int, Any, Any]) -> None:
        """Merge a part that is not empty into one cell; the caller keeps the count, which several arrays share."""
        mean, m2 = (self.arrays[name] for name in names)
        _, mean[at], m2[at] = merge_moments([(n_before, mean[at], m2[at]), part])

    def _sites(self) -> Iterator[tuple[str, tuple[str, str, str]]]:
        return ((site, names) for site, names in SITES.items() if names[0] in self.arrays)
