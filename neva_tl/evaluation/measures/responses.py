"""What a judge said with and without each edit, reduced to what the leakage measures and their bootstrap need."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES


@dataclass(frozen=True, eq=False)
class Responses:
    """Item scores of one method: unedited, and under the edit towards each steered value.

    Attributes:
        method: name of the method.
        steered: the values steered towards, one condition each.
        values: the values measured (circle order); every steered value is among them.
        base: per measured value j, the unedited scores of its items `[n_j]`; NaN = the judge failed (missing).
        edited: per measured value j, scores under each condition `[n_steered, n_j]`.
        clusters: per measured value j, the topic of each item `[n_j]` (the unit that is resampled).
        shared: the items are the same for every j (a text judge reads the same texts for ten values). Their clusters
            are then resampled once for all j, which keeps the correlation between columns; otherwise within each j.
        bounds: smallest and largest possible score, for worst-case bounds of missing scores; None = unbounded.
        excluded: per measured value j, items that do not count in D[i, j] `[n_steered, n_j]` (dilemmas that offer i).
        judge, unit: printed with every table; units are never mixed.
        question: what the judge asked, word for word, where it asked anything; printed with results.
    """

    method: str
    steered: tuple[str, ...]
    base: tuple[Float[np.ndarray, " _"], ...]
    edited: tuple[Float[np.ndarray, "i _"], ...]
    clusters: tuple[np.ndarray, ...]
    values: tuple[str, ...] = VALUES
    shared: bool = False
    bounds: tuple[float, float] | None = (0.0, 1.0)
    excluded: tuple[Bool[np.ndarray, "i _"], ...] | None = None
    judge: str = ""
    unit: str = ""
    question: str = ""

    def __post_init__(self) -> None:
        lengths = {len(self.values), len(self.base), len(self.edited), len(self.clusters)}
        if len(lengths) != 1:
            raise InputError(
                f"responses of {self.method!r}: base, edited and clusters need one array per measured value"
            )
        for name, base, edited, clusters in zip(self.values, self.base, self.edited, self.clusters, strict=True):
            if len(base) == 0:
                raise InputError(
                    f"responses of {self.method!r}: no items measure {name!r}; add prompts or leave it out"
                )
            if edited.shape != (len(self.steered), len(base)) or len(clusters) != len(base):
                raise InputError(
                    f"responses of {self.method!r}, value {name!r}: expected edited scores of shape "
                    f"({len(self.steered)}, {len(base)}) and as many clusters, got {edited.shape} and {len(clusters)}"
                )

    @property
    def target(self) -> Int[np.ndarray, " i"]:
        """Column of each steered value among the measured ones.

        Raises:
            InputError: a steered value is not measured, so that it has no gain.
        """
        missing = [name for name in self.steered if name not in self.values]
        if missing:
            raise InputError(f"steered towards {missing[0]!r}, which is not measured: add items that measure it")
        return np.array([self.values.index(name) for name in self.steered], dtype=int)

    @property
    def n(self) -> int:
        """Items behind the matrix: prompts x samples when shared, else summed over the measured values."""
        return len(self.base[0]) if self.shared else sum(len(b) for b in self.base)

    def _repr_html_(self) -> str:
        rows = [
            {"measured": name, "items": len(base), "topics": len(set(clusters.tolist())), "unedited": _mean(base)}
            for name, base, clusters in zip(self.values, self.base, self.clusters, strict=True)
        ]
        for row, edited in zip(rows, self.edited, strict=True):
            row |= {f"towards {name}": _mean(scores) for name, scores in zip(self.steered, edited, strict=True)}
        facts = {"judge": self.judge or None, "unit": self.unit or None, "steered": ", ".join(self.steered)}
        return card(f"Responses under {self.method}: mean scores", facts, pd.DataFrame(rows), note=self.note)

    @property
    def note(self) -> str:
        """The judge's question as a sentence for notes; empty where it asks nothing."""
        return f"{self.judge} was asked: {self.question}" if self.question else ""

    def show(self) -> Any:
        """The leakage matrix of these responses as a matplotlib figure (see `measure`)."""
        from neva_tl.evaluation.measures.result import measure

        return measure(self, n_boot=500, n_permutations=1).show()

    def select(self, steered: Iterable[str]) -> Responses:
        """The same responses for some of the steered values (say those that two methods both reach)."""
        wanted = tuple(steered)
        unknown = [name for name in wanted if name not in self.steered]
        if unknown:
            raise InputError(f"responses of {self.method!r} hold no edit towards {unknown[0]!r}")
        rows = [self.steered.index(name) for name in wanted]
        excluded = None if self.excluded is None else tuple(e[rows] for e in self.excluded)
        return replace(self, steered=wanted, edited=tuple(e[rows] for e in self.edited), excluded=excluded)


def _mean(scores: Float[np.ndarray, " n"]) -> float:
    there = scores[np.isfinite(scores)]
    return float(there.mean()) if len(there) else float("nan")


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """Sums of score changes and counts of usable items per cluster: all that D and its bootstrap need.

    Attributes:
        change: per measured value, `[i, c_j]` sum over the cluster's usable items of edited - unedited.
        count: per measured value, `[i, c_j]` usable items (scored in both conditions and not excluded).
        names: per measured value, the distinct cluster names, sorted (so that the order of items cannot matter).
    """

    change: tuple[Float[np.ndarray, "i _"], ...]
    count: tuple[Float[np.ndarray, "i _"], ...]
    names: tuple[tuple[str, ...], ...]


def cluster_sums(responses: Responses) -> ClusterSums:
    """Reduce item scores to cluster sums; items missing in either condition are left out (see `worst_case`)."""
    change, count, names = [], [], []
    for j, (base, edited) in enumerate(zip(responses.base, responses.edited, strict=True)):
        found, member = np.unique(np.asarray(responses.clusters[j], dtype=str), return_inverse=True)
        diff = edited - base[None, :]
        usable = ~np.isnan(diff)
        if responses.excluded is not None:
            usable &= ~responses.excluded[j]
        onehot = np.zeros((len(base), len(found)))
        onehot[np.arange(len(base)), member.reshape(-1)] = 1.0
        change.append(np.where(usable, diff, 0.0) @ onehot)
        count.append(usable.astype(float) @ onehot)
        names.append(tuple(str(name) for name in found))
    return ClusterSums(tuple(change), tuple(count), tuple(names))


def worst_case(responses: Responses) -> tuple[Float[np.ndarray, "i j"], Float[np.ndarray, "i j"]] | None:
    """D if every missing score had come out as badly, or as well, as it could: `(lowest, highest)`.

    A missing score is replaced by the end of `responses.bounds` that lowers (raises) D. None when the judge's unit has
    no bounds.
    """
    if responses.bounds is None:
        return None
    low, high = responses.bounds
    lowest, highest = [], []
    for j, (base, edited) in enumerate(zip(responses.base, responses.edited, strict=True)):
        weight = np.ones(edited.shape) if responses.excluded is None else (~responses.excluded[j]).astype(float)
        total = np.where(weight.sum(axis=1) > 0, weight.sum(axis=1), np.nan)

        def fill(x: np.ndarray, with_: float) -> np.ndarray:
            return np.where(np.isnan(x), with_, x)

        lowest.append(((fill(edited, low) - fill(base, high)) * weight).sum(axis=1) / total)
        highest.append(((fill(edited, high) - fill(base, low)) * weight).sum(axis=1) / total)
    return np.stack(lowest, axis=1), np.stack(highest, axis=1)


def _generator(*parts: object) -> np.random.Generator:
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def bootstrap_weights(
    names: tuple[tuple[str, ...], ...], labels: tuple[str, ...], *, n_boot: int, seed: int, shared: bool
) -> tuple[Float[np.ndarray, "b _"], ...]:
    """How often each cluster is drawn in each bootstrap replicate, per measured value.

    The draws depend on nothing but the seed, the cluster names and (unless the items are shared) the measured value:
    every steered value and every method sees the same draws, which makes their differences and ratios paired. Where the
    items are shared, the measured values share one array.
    """

    @cache
    def drawn(label: str, clusters: tuple[str, ...]) -> np.ndarray:
        rng = _generator("bootstrap", seed, label, *clusters)
        size = len(clusters)
        weights = rng.multinomial(size, np.full(size, 1.0 / size), size=n_boot).astype(float)
        # one cluster has no spread to resample: NaN, so that no interval of width zero is ever printed
        return weights if size > 1 else np.full_like(weights, np.nan)

    return tuple(drawn("" if shared else label, clusters) for label, clusters in zip(labels, names, strict=True))


def random_halves(
    names: tuple[tuple[str, ...], ...], labels: tuple[str, ...], *, n_splits: int, seed: int, shared: bool
) -> tuple[Bool[np.ndarray, "r _"], ...]:
    """`n_splits` random halvings of the clusters of each measured value; True = first half.

    Seeded and shared as the bootstrap is.
    """

    @cache
    def halved(label: str, clusters: tuple[str, ...]) -> np.ndarray:
        rng = _generator("halves", seed, label, *clusters)
        order = np.argsort(rng.random((n_splits, len(clusters))), axis=1)
        half = np.zeros((n_splits, len(clusters)), dtype=bool)
        np.put_along_axis(half, order[:, : len(clusters) // 2], True, axis=1)
        return half

    return tuple(halved("" if shared else label, clusters) for label, clusters in zip(labels, names, strict=True))
