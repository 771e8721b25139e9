"""Moments under construction: what `collect` and `from_samples` update batch by batch, and how finished ones are merged."""

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

#: Site -> its arrays (mean, M2, share above 0) on a (value, pole, fold) grid. The share is named alike in pooled batches.
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


@dataclass(frozen=True, eq=False)
class CellIndex:
    """Which cell of the grids each row of a table belongs to.

    Attributes:
        cell: `[n]` in the flat (value, pole, fold) grid.
        pair: `[n]` number of the row's (value, fold, pair); -1 where it has no pair.
        pair_cell: `[n]` in the flat (value, fold) grid.
    """

    cell: Int[np.ndarray, " n"]
    pair: Int[np.ndarray, " n"]
    pair_cell: Int[np.ndarray, " n"]

    @classmethod
    def of(cls, table: pd.DataFrame, values: Sequence[str]) -> CellIndex:
        """From the columns `value`, `pole`, `fold`, `pair_id`."""
        value = table["value"].map({name: i for i, name in enumerate(values)}).to_numpy(dtype=np.int64)
        pole = (table["pole"] == POLES[1]).to_numpy(dtype=np.int64)
        fold = table["fold"].to_numpy(dtype=np.int64)
        pair_cell = value * N_FOLDS + fold
        code = pd.factorize(table["pair_id"])[0]  # -1 where there is none
        pair = np.where(code >= 0, pd.factorize(pair_cell * (code.max(initial=0) + 1) + code)[0], -1)
        return cls((value * len(POLES) + pole) * N_FOLDS + fold, pair, pair_cell)

    def update(self, rows: np.ndarray) -> CellUpdate:
        """The given rows as one update; pairs count where both rows are among them."""
        cells, place = np.unique(self.cell[rows], return_inverse=True)
        plus, minus = self._pairs(rows)
        pair_cells, pair_place = np.unique(self.pair_cell[rows][plus], return_inverse=True)
        return CellUpdate(cells, place, plus, minus, pair_cells, pair_place)

    def _pairs(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places in `rows` of the two rows of every whole pair."""
        pole = self.cell[rows] // N_FOLDS % len(POLES)
        known = self.pair[rows] >= 0
        found = []
        for number in range(len(POLES)):
            at = np.flatnonzero(known & (pole == number))
            # shuffled or planted labels may leave a row without its partner, or two rows of one pole
            names, first = np.unique(self.pair[rows][at], return_index=True)
            found.append((names, at[first]))
        (plus, plus_at), (minus, minus_at) = found
        _, in_plus, in_minus = np.intersect1d(plus, minus, assume_unique=True, return_indices=True)
        return plus_at[in_plus], minus_at[in_minus]


@dataclass(frozen=True, eq=False)
class CellUpdate:
    """Some observations and the cells they join.

    Attributes:
        cells: `[g]` cells that occur, ascending.
        place: `[n]` each observation's place among them.
        plus, minus: `[m]` observations that make whole pairs.
        pair_cells: `[h]` cells of the pairs; pair_place: `[m]` each pair's place among them.
    """

    cells: np.ndarray
    place: np.ndarray
    plus: np.ndarray
    minus: np.ndarray
    pair_cells: np.ndarray
    pair_place: np.ndarray

    @cached_property
    def counts(self) -> np.ndarray:
        """`[g]` observations of each cell."""
        return np.bincount(self.place, minlength=len(self.cells))

    @cached_property
    def pair_counts(self) -> np.ndarray:
        """`[h]` pairs of each cell."""
        return np.bincount(self.pair_place, minlength=len(self.pair_cells))

    def repeated(self, times: np.ndarray) -> CellUpdate:
        """Every observation so many times (its tokens), without pairs."""
        none = np.zeros(0, dtype=np.int64)
        return CellUpdate(self.cells, np.repeat(self.place, times), none, none, none, none)


class Reduced(NamedTuple):
    """Moments of a part's observations at one site, by the part's cells; their count is the part's."""

    mean: Float[Tensor, "g k"]
    m2: Float[Tensor, "g k"]


def float_for(device: torch.device) -> torch.dtype:
    """The arithmetic of moments on a device: float64 wherever there is one (not on Apple's GPUs)."""
    return torch.float32 if device.type == "mps" else torch.float64


def summed(x: Float[Tensor, "n k"], place: np.ndarray, groups: int) -> Float[Tensor, "g k"]:
    """Sum of the rows of each group, in the same order whenever it is called."""
    at = torch.from_numpy(place).to(x.device)
    if x.device.type == "cpu":
        return x.new_zeros((groups, x.shape[1])).index_add_(0, at, x)
    # on a GPU index_add_ adds in any order: the product is the same in every run
    return torch.nn.functional.one_hot(at, groups).T.to(x.dtype) @ x


def reduced(x: Tensor, place: np.ndarray, groups: int) -> Reduced:
    """Two-pass moments of the rows of each group (none of them empty)."""
    x = x.to(float_for(x.device))
    count = torch.from_numpy(np.bincount(place, minlength=groups)).to(x.device, x.dtype)[:, None]
    mean = summed(x, place, groups) / count
    return Reduced(mean, summed((x - mean[torch.from_numpy(place).to(x.device)]).square_(), place, groups))


#: What a batch gives per layer: site or share -> pooled rows, or moments of tokens that no buffer could hold.
Pooled = Mapping[str, Tensor | Reduced]


class Accumulator:
    """Moments that grow, layer by layer, each on the device that its layer runs on, in float64.

    Attributes:
        values: in circle order.
        n: `[v, p, f]` observations; diff_n: `[v, f]` pairs.
        layers: per layer its tensors: means and M2 `[cells, k]`, shares above 0 and the residual stream as sums.
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
        """Nothing counted yet.

        Args:
            devices: of each layer.
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

    def add(self, part: CellUpdate, pooled: Sequence[Pooled]) -> None:
        """Join a part's observations to the moments.

        Args:
            pooled: per layer `post`, `positive` (and `gate`, `gate_positive`) `[n, k]` and `resid` `[n, d]`; or, for
                observations that were reduced already, their moments, with shares and stream as sums by cell.
        """
        for layer, found in enumerate(pooled):
            self.add_layer(layer, part, found)
        self.count(part)

    def add_layer(self, layer: int, part: CellUpdate, found: Pooled) -> None:
        """Join one layer's observations; `count` follows when all layers have theirs."""
        held, n, diff_n = self.layers[layer], self.n.reshape(-1), self.diff_n.reshape(-1)
        for site, (mean, m2, positive) in SITES.items():
            if mean not in held:
                continue
            x, share = found[site], found[positive]
            whole = x if isinstance(x, Reduced) else reduced(x, part.place, len(part.cells))
            _join(held, (mean, m2), part.cells, n[part.cells], part.counts, whole)
            assert isinstance(share, Tensor)
            _sum_into(held[positive], share, part, reduced_already=isinstance(x, Reduced))
        post, resid = found["post"], found["resid"]
        assert isinstance(resid, Tensor)
        _sum_into(held["resid"], resid, part, reduced_already=isinstance(post, Reduced), by=N_FOLDS)
        if len(part.plus) and isinstance(post, Tensor):
            plus, minus = (torch.from_numpy(at).to(post.device) for at in (part.plus, part.minus))
            exact = post.to(float_for(post.device))
            whole = reduced(exact[plus] - exact[minus], part.pair_place, len(part.pair_cells))
            _join(held, _DIFFS, part.pair_cells, diff_n[part.pair_cells], part.pair_counts, whole)

    def count(self, part: CellUpdate) -> None:
        """A part's observations are in the moments of all layers."""
        self.n.reshape(-1)[part.cells] += part.counts
        self.diff_n.reshape(-1)[part.pair_cells] += part.pair_counts

    def merge(self, other: Accumulator) -> None:
        """Join what another accumulator of the same grid holds."""
        for held, more in zip(self.layers, other.layers, strict=True):
            for count, names in self.moments:
                mine, theirs = (getattr(one, count).reshape(-1) for one in (self, other))
                at = np.flatnonzero(theirs)
                mean, m2 = (more[name][torch.from_numpy(at).to(more[name].device)] for name in names)
                _join(held, names, at, mine[at], theirs[at], Reduced(mean.to(held[names[0]]), m2.to(held[names[1]])))
            for name in self.sums:
                held[name] += more[name].to(held[name])
        self.n += other.n
        self.diff_n += other.diff_n

    @property
    def moments(self) -> list[tuple[str, tuple[str, str]]]:
        """Every mean and M2 that is held, behind the name of what counts it (`n`, `diff_n`)."""
        sites = [("n", names[:2]) for names in SITES.values() if names[0] in self.layers[0]]
        return [*sites, ("diff_n", _DIFFS)]

    @property
    def sums(self) -> list[str]:
        """What is held as sums: shares above 0 and the residual stream."""
        return [name for name in self.layers[0] if name.endswith("positive") or name == "resid"]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of `ActivationStats`, float32; empties the accumulator as it goes (both would be held at once)."""
        v, p, f = self.n.shape
        grid = {"resid": (v, p)} | dict.fromkeys(_DIFFS, (v, f))
        count = np.maximum(self.n, 1)
        out: dict[str, np.ndarray] = {"n": self.n, "diff_n": self.diff_n}
        for name, first in self.layers[0].items():
            out[name] = np.empty((*grid.get(name, (v, p, f)), len(self.layers), first.shape[1]), dtype=np.float32)
        for layer, held in enumerate(self.layers):
            for name in list(held):
                x = held.pop(name).cpu().numpy().reshape(*grid.get(name, (v, p, f)), -1)
                if name.endswith("positive"):
                    x = x / count[..., None]
                if name == "resid":
                    x = x / np.maximum(self.n.sum(axis=-1), 1)[..., None]
                out[name][..., layer, :] = x
        return out


def _join(
    held: dict[str, Tensor], names: tuple[str, str], cells: np.ndarray, before: np.ndarray, n: np.ndarray, part: Reduced
) -> None:
    """Merge a part into its cells (Chan, Golub and LeVeque 1979); the caller keeps the counts, which sites share."""
    mean, m2 = (held[name] for name in names)
    at = torch.from_numpy(cells).to(mean.device)
    new, old = (torch.from_numpy(count).to(mean.device, mean.dtype)[:, None] for count in (n, before))
    step = part.mean.to(mean) - mean[at]
    mean[at] += step * (new / (new + old))
    m2[at] += part.m2.to(m2) + step.square() * (new * old / (new + old))


def _sum_into(total: Tensor, x: Tensor, part: CellUpdate, *, reduced_already: bool, by: int = 1) -> None:
    """Add rows, or sums by cell, to their cells; `by` neighbouring cells share a row of `total`."""
    cells, place = np.unique(part.cells // by, return_inverse=True)
    sums = summed(x.to(total.dtype), place if reduced_already else place[part.place], len(cells))
    at = torch.from_numpy(cells).to(total.device)
    total[at] += sums.to(total)


def merge_arrays(a: dict[str, np.ndarray], b: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of two finished statistics of the same values and shapes, together (float64 arithmetic)."""
    out = {name: array.copy() for name, array in a.items()}
    n_a, n_b = a["n"].sum(axis=-1), b["n"].sum(axis=-1)
    share = (n_b / np.maximum(n_a + n_b, 1))[..., None, None]
    out["resid"] = (a["resid"] * (1 - share) + b["resid"] * share).astype(np.float32)
    sites = [names for names in SITES.values() if names[0] in a]
    grids = [("n", mean, m2) for mean, m2, _ in sites] + [("diff_n", *_DIFFS)]
    for count, mean, m2 in grids:
        for at in np.ndindex(*a[count].shape):
            if b[count][at]:
                both = [(int(x[count][at]), x[mean][at], x[m2][at]) for x in (a, b)]
                _, out[mean][at], out[m2][at] = merge_moments(both)
    for _, _, positive in sites:
        for at in np.ndindex(*a["n"].shape):
            if b["n"][at]:
                weights = [int(x["n"][at]) for x in (a, b)]
                out[positive][at] = np.average([a[positive][at], b[positive][at]], axis=0, weights=weights)
    out["n"], out["diff_n"] = a["n"] + b["n"], a["diff_n"] + b["diff_n"]
    return out
