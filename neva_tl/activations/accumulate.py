"""Streaming moments: updated batch by batch by `collect` and `from_samples`, and merged when finished."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neva_tl.core.statistics import Moments, merge_moments

N_FOLDS = 8
POLES = ("+", "-")

#: Site -> its arrays (mean, M2, share above 0) on a (value, pole, fold) grid. Pooled batches use the same name for the share.
SITES: dict[str, tuple[str, str, str]] = {
    "post": ("mean", "m2", "positive"),
    "gate": ("gate_mean", "gate_m2", "gate_positive"),
}
#: Arrays of pair differences, on a (value, fold) grid.
_DIFFS = ("diff_mean", "diff_m2")


def fold_of(cluster: str) -> int:
    """Return the fold of a cluster: sha256 of its name modulo 8, so that it is the same on every machine.

    Args:
        cluster: Name of the cluster.
    """
    return int.from_bytes(hashlib.sha256(str(cluster).encode()).digest()[:8], "big") % N_FOLDS


def merge_folds(n: np.ndarray, mean: np.ndarray, m2: np.ndarray, fold: int | Sequence[int] | None) -> Moments:
    """Merge the moments of several folds.

    The result equals that of `merge_moments` to the last bit, but takes only three buffers, since selection merges the
    folds of every neuron.

    Args:
        n: `[f]` observations of each fold.
        mean: `[f, ...]` means.
        m2: `[f, ...]` sums of squared deviations.
        fold: A fold, or several; None takes all.

    Returns:
        The moments in float64; zeros with a count of 0 if these folds are empty.
    """
    folds = range(len(n)) if fold is None else ([fold] if isinstance(fold, int) else list(fold))
    full = [f for f in folds if n[f]]
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


@dataclass(frozen=True, eq=False)
class CellIndex:
    """Grid cells of the rows of a table.

    Attributes:
        cell: `[n]` index of the row's cell in the flat (value, pole, fold) grid.
        pair: `[n]` number of the row's (value, fold, pair); -1 if it has no pair.
        pair_cell: `[n]` index of the row's cell in the flat (value, fold) grid.
    """

    cell: Int[np.ndarray, " n"]
    pair: Int[np.ndarray, " n"]
    pair_cell: Int[np.ndarray, " n"]

    @classmethod
    def of(cls, table: pd.DataFrame, values: Sequence[str]) -> CellIndex:
        """Build the index from the columns `value`, `pole`, `fold`, `pair_id`.

        Args:
            table: The rows.
            values: Values in the order of the grid.
        """
        value = table["value"].map({name: i for i, name in enumerate(values)}).to_numpy(dtype=np.int64)
        pole = (table["pole"] == POLES[1]).to_numpy(dtype=np.int64)
        fold = table["fold"].to_numpy(dtype=np.int64)
        pair_cell = value * N_FOLDS + fold
        code = pd.factorize(table["pair_id"])[0]  # -1 if there is none
        pair = np.where(code >= 0, pd.factorize(pair_cell * (code.max(initial=0) + 1) + code)[0], -1)
        return cls((value * len(POLES) + pole) * N_FOLDS + fold, pair, pair_cell)

    def update(self, rows: np.ndarray) -> CellUpdate:
        """Return the update for some rows; a pair counts if both of its rows are among them.

        Args:
            rows: Row numbers.
        """
        cells, cell_index = np.unique(self.cell[rows], return_inverse=True)
        plus, minus = self._pairs(rows)
        pair_cells, pair_index = np.unique(self.pair_cell[rows][plus], return_inverse=True)
        return CellUpdate(cells, cell_index, plus, minus, pair_cells, pair_index)

    def _pairs(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions in `rows` of the plus and the minus row of every complete pair."""
        pole = self.cell[rows] // N_FOLDS % len(POLES)
        paired = self.pair[rows] >= 0
        by_pole = []
        for pole_number in range(len(POLES)):
            pole_rows = np.flatnonzero(paired & (pole == pole_number))
            # shuffled or planted labels may give a row without its partner, or two rows of one pole
            numbers, first = np.unique(self.pair[rows][pole_rows], return_index=True)
            by_pole.append((numbers, pole_rows[first]))
        (plus, plus_rows), (minus, minus_rows) = by_pole
        _, in_plus, in_minus = np.intersect1d(plus, minus, assume_unique=True, return_indices=True)
        return plus_rows[in_plus], minus_rows[in_minus]


@dataclass(frozen=True, eq=False)
class CellUpdate:
    """Observations and the grid cells they are added to.

    Attributes:
        cells: `[g]` cells that occur, ascending.
        cell_index: `[n]` index of each observation's cell in `cells`.
        plus: `[m]` plus observation of each complete pair.
        minus: `[m]` minus observation of each complete pair.
        pair_cells: `[h]` cells of the pairs, ascending.
        pair_index: `[m]` index of each pair's cell in `pair_cells`.
    """

    cells: np.ndarray
    cell_index: np.ndarray
    plus: np.ndarray
    minus: np.ndarray
    pair_cells: np.ndarray
    pair_index: np.ndarray

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of observations of each cell, `[g]`."""
        return np.bincount(self.cell_index, minlength=len(self.cells))

    @cached_property
    def pair_counts(self) -> np.ndarray:
        """Number of pairs of each cell, `[h]`."""
        return np.bincount(self.pair_index, minlength=len(self.pair_cells))

    def repeated(self, times: np.ndarray) -> CellUpdate:
        """Repeat each observation once per token; pairs are dropped.

        Args:
            times: `[n]` tokens of each observation.
        """
        none = np.zeros(0, dtype=np.int64)
        return CellUpdate(self.cells, np.repeat(self.cell_index, times), none, none, none, none)


class Reduced(NamedTuple):
    """Moments of an update's observations at one site, one row per cell; the update holds the counts."""

    mean: Float[Tensor, "g k"]
    m2: Float[Tensor, "g k"]


def float_for(device: torch.device) -> torch.dtype:
    """Return the dtype of moments on a device: float64 where it is supported (Apple's GPUs lack it).

    Args:
        device: The device.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def summed(x: Float[Tensor, "n k"], group_of: np.ndarray, n_groups: int) -> Float[Tensor, "g k"]:
    """Sum the rows of each group, in the same order in every call.

    Args:
        x: The rows.
        group_of: `[n]` group of each row.
        n_groups: Number of groups.
    """
    index = torch.from_numpy(group_of).to(x.device)
    if x.device.type == "cpu":
        return x.new_zeros((n_groups, x.shape[1])).index_add_(0, index, x)
    # on a GPU index_add_ adds in any order, whereas the product is the same in every run
    return torch.nn.functional.one_hot(index, n_groups).T.to(x.dtype) @ x


def reduced(x: Tensor, group_of: np.ndarray, n_groups: int) -> Reduced:
    """Compute two-pass moments of the rows of each group.

    Args:
        x: The rows.
        group_of: `[n]` group of each row.
        n_groups: Number of groups; every group has a row.
    """
    x = x.to(float_for(x.device))
    count = torch.from_numpy(np.bincount(group_of, minlength=n_groups)).to(x.device, x.dtype)[:, None]
    mean = summed(x, group_of, n_groups) / count
    return Reduced(mean, summed((x - mean[torch.from_numpy(group_of).to(x.device)]).square_(), group_of, n_groups))


#: Result of a batch for one layer: site or share -> pooled rows, or moments where the rows (tokens) would not fit in memory.
Pooled = Mapping[str, Tensor | Reduced]


class Accumulator:
    """Running moments of all layers, each on the device of its layer, in float64.

    Args:
        values: Values in circle order.
        layers: Arrays of each layer.

    Attributes:
        values: Values in circle order.
        layers: Per layer its tensors: means and M2 `[cells, k]`, shares above 0 and the residual stream as sums.
        n: `[v, p, f]` observations.
        diff_n: `[v, f]` pairs.
    """

    def __init__(self, values: tuple[str, ...], layers: list[dict[str, Tensor]]) -> None:
        self.values = values
        self.layers = layers
        self.n = np.zeros((len(values), len(POLES), N_FOLDS), dtype=np.int64)
        self.diff_n = np.zeros((len(values), N_FOLDS), dtype=np.int64)

    @classmethod
    def empty(
        cls, values: tuple[str, ...], devices: Sequence[torch.device], width: int, d_model: int, *, gated: bool
    ) -> Accumulator:
        """Return an accumulator without observations.

        Args:
            values: Values in circle order.
            devices: Device of each layer.
            width: Neurons of a layer.
            d_model: Width of the residual stream.
            gated: Also accumulate `act(gate)`.
        """
        poles = len(values) * len(POLES)
        layers = []
        for device in devices:
            shapes = {
                name: (poles * N_FOLDS, width) for site in SITES if gated or site != "gate" for name in SITES[site]
            }
            shapes |= {name: (len(values) * N_FOLDS, width) for name in _DIFFS} | {"resid": (poles, d_model)}
            layers.append(
                {name: torch.zeros(shape, dtype=float_for(device), device=device) for name, shape in shapes.items()}
            )
        return cls(values, layers)

    def add(self, update: CellUpdate, pooled: Sequence[Pooled]) -> None:
        """Add the observations of an update to the moments.

        Args:
            update: Cells of the observations.
            pooled: Per layer `post`, `positive` (and `gate`, `gate_positive`) `[n, k]` and `resid` `[n, d]`; or, for
                observations that are already reduced, their moments, with shares and stream as sums by cell.
        """
        for layer, layer_pooled in enumerate(pooled):
            self.add_layer(layer, update, layer_pooled)
        self.count(update)

    def add_layer(self, layer: int, update: CellUpdate, pooled: Pooled) -> None:
        """Add the observations of one layer; call `count` once all layers are added.

        Args:
            layer: Index of the layer.
            update: Cells of the observations.
            pooled: Their pooled rows or moments (see `add`).
        """
        arrays, n, diff_n = self.layers[layer], self.n.reshape(-1), self.diff_n.reshape(-1)
        for site, (mean, m2, positive) in SITES.items():
            if mean not in arrays:
                continue
            x, share = pooled[site], pooled[positive]
            moments = x if isinstance(x, Reduced) else reduced(x, update.cell_index, len(update.cells))
            _join(arrays, (mean, m2), update.cells, n[update.cells], update.counts, moments)
            assert isinstance(share, Tensor)
            _sum_into(arrays[positive], share, update, reduced_already=isinstance(x, Reduced))
        post, resid = pooled["post"], pooled["resid"]
        assert isinstance(resid, Tensor)
        _sum_into(arrays["resid"], resid, update, reduced_already=isinstance(post, Reduced), by=N_FOLDS)
        if len(update.plus) and isinstance(post, Tensor):
            plus, minus = (torch.from_numpy(rows).to(post.device) for rows in (update.plus, update.minus))
            exact = post.to(float_for(post.device))
            moments = reduced(exact[plus] - exact[minus], update.pair_index, len(update.pair_cells))
            _join(arrays, _DIFFS, update.pair_cells, diff_n[update.pair_cells], update.pair_counts, moments)

    def count(self, update: CellUpdate) -> None:
        """Count the observations of an update, once they are in the moments of all layers.

        Args:
            update: Cells of the observations.
        """
        self.n.reshape(-1)[update.cells] += update.counts
        self.diff_n.reshape(-1)[update.pair_cells] += update.pair_counts

    def merge(self, other: Accumulator) -> None:
        """Add the moments of another accumulator of the same grid.

        Args:
            other: The other accumulator.
        """
        for arrays, other_arrays in zip(self.layers, other.layers, strict=True):
            for count, names in self.moments:
                self_n, other_n = (getattr(accumulator, count).reshape(-1) for accumulator in (self, other))
                cells = np.flatnonzero(other_n)
                mean, m2 = (other_arrays[name][torch.from_numpy(cells).to(other_arrays[name].device)] for name in names)
                moments = Reduced(mean.to(arrays[names[0]]), m2.to(arrays[names[1]]))
                _join(arrays, names, cells, self_n[cells], other_n[cells], moments)
            for name in self.sums:
                arrays[name] += other_arrays[name].to(arrays[name])
        self.n += other.n
        self.diff_n += other.diff_n

    @property
    def moments(self) -> list[tuple[str, tuple[str, str]]]:
        """Names of the stored (mean, M2), each with the name of its count (`n` or `diff_n`)."""
        sites = [("n", names[:2]) for names in SITES.values() if names[0] in self.layers[0]]
        return [*sites, ("diff_n", _DIFFS)]

    @property
    def sums(self) -> list[str]:
        """Names of the arrays stored as sums: shares above 0 and the residual stream."""
        return [name for name in self.layers[0] if name.endswith("positive") or name == "resid"]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of `ActivationStats` in float32, and empty the accumulator to save memory."""
        v, p, f = self.n.shape
        grid = {"resid": (v, p)} | dict.fromkeys(_DIFFS, (v, f))
        count = np.maximum(self.n, 1)
        out: dict[str, np.ndarray] = {"n": self.n, "diff_n": self.diff_n}
        for name, first in self.layers[0].items():
            out[name] = np.empty((*grid.get(name, (v, p, f)), len(self.layers), first.shape[1]), dtype=np.float32)
        for layer, layer_arrays in enumerate(self.layers):
            for name in list(layer_arrays):
                x = layer_arrays.pop(name).cpu().numpy().reshape(*grid.get(name, (v, p, f)), -1)
                if name.endswith("positive"):
                    x = x / count[..., None]
                if name == "resid":
                    x = x / np.maximum(self.n.sum(axis=-1), 1)[..., None]
                out[name][..., layer, :] = x
        return out


def _join(
    arrays: dict[str, Tensor],
    names: tuple[str, str],
    cells: np.ndarray,
    before: np.ndarray,
    n: np.ndarray,
    moments: Reduced,
) -> None:
    """Merge moments into their cells (Chan, Golub and LeVeque 1979); the caller updates the counts, which sites share."""
    mean, m2 = (arrays[name] for name in names)
    index = torch.from_numpy(cells).to(mean.device)
    new, old = (torch.from_numpy(count).to(mean.device, mean.dtype)[:, None] for count in (n, before))
    step = moments.mean.to(mean) - mean[index]
    mean[index] += step * (new / (new + old))
    m2[index] += moments.m2.to(m2) + step.square() * (new * old / (new + old))


def _sum_into(total: Tensor, x: Tensor, update: CellUpdate, *, reduced_already: bool, by: int = 1) -> None:
    """Add rows, or sums by cell, to their cells; `by` neighbouring cells share a row of `total`."""
    cells, group_of = np.unique(update.cells // by, return_inverse=True)
    sums = summed(x.to(total.dtype), group_of if reduced_already else group_of[update.cell_index], len(cells))
    index = torch.from_numpy(cells).to(total.device)
    total[index] += sums.to(total)


def merge_arrays(a: dict[str, np.ndarray], b: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Merge the arrays of two finished statistics in float64 arithmetic.

    Args:
        a: Arrays of the first.
        b: Arrays of the second, of the same values and shapes.
    """
    out = {name: array.copy() for name, array in a.items()}
    n_a, n_b = a["n"].sum(axis=-1), b["n"].sum(axis=-1)
    share = (n_b / np.maximum(n_a + n_b, 1))[..., None, None]
    out["resid"] = (a["resid"] * (1 - share) + b["resid"] * share).astype(np.float32)
    sites = [names for names in SITES.values() if names[0] in a]
    grids = [("n", mean, m2) for mean, m2, _ in sites] + [("diff_n", *_DIFFS)]
    for count, mean, m2 in grids:
        for cell in np.ndindex(*a[count].shape):
            if b[count][cell]:
                both = [(int(x[count][cell]), x[mean][cell], x[m2][cell]) for x in (a, b)]
                _, out[mean][cell], out[m2][cell] = merge_moments(both)
    for _, _, positive in sites:
        for cell in np.ndindex(*a["n"].shape):
            if b["n"][cell]:
                weights = [int(x["n"][cell]) for x in (a, b)]
                out[positive][cell] = np.average([a[positive][cell], b[positive][cell]], axis=0, weights=weights)
    out["n"], out["diff_n"] = a["n"] + b["n"], a["diff_n"] + b["diff_n"]
    return out
