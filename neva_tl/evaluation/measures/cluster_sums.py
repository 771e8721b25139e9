"""Item scores reduced to sums per cluster, and the bootstrap draws and halves of the clusters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float

from neva_tl.evaluation.measures.responses import Responses


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
