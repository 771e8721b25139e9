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
    """Sums of score changes and counts of usable items per cluster, the input of D and its bootstrap.

    Attributes:
        change: Per measured value, `[i, c_j]` sum of edited - unedited over the cluster's usable items.
        count: Per measured value, `[i, c_j]` number of usable items (scored in both conditions and not excluded).
        names: Per measured value, the distinct cluster names, sorted, so that the order of items does not matter.
    """

    change: tuple[Float[np.ndarray, "i _"], ...]
    count: tuple[Float[np.ndarray, "i _"], ...]
    names: tuple[tuple[str, ...], ...]


def cluster_sums(responses: Responses) -> ClusterSums:
    """Reduce item scores to cluster sums; omits items that lack a score in either condition (see `worst_case`).

    Args:
        responses: The item scores.
    """
    change, count, names = [], [], []
    for j, (base, edited) in enumerate(zip(responses.base, responses.edited, strict=True)):
        distinct, member = np.unique(np.asarray(responses.clusters[j], dtype=str), return_inverse=True)
        diff = edited - base[None, :]
        usable = ~np.isnan(diff)
        if responses.excluded is not None:
            usable &= ~responses.excluded[j]
        onehot = np.zeros((len(base), len(distinct)))
        onehot[np.arange(len(base)), member.reshape(-1)] = 1.0
        change.append(np.where(usable, diff, 0.0) @ onehot)
        count.append(usable.astype(float) @ onehot)
        names.append(tuple(str(name) for name in distinct))
    return ClusterSums(tuple(change), tuple(count), tuple(names))


def worst_case(responses: Responses) -> tuple[Float[np.ndarray, "i j"], Float[np.ndarray, "i j"]] | None:
    """Return the lowest and the highest D that the missing scores allow.

    A missing score is replaced by the end of `responses.bounds` that lowers (raises) D.

    Args:
        responses: The item scores.

    Returns:
        `(lowest, highest)`; None if the judge's unit has no bounds.
    """
    if responses.bounds is None:
        return None
    low, high = responses.bounds
    lowest, highest = [], []
    for j, (base, edited) in enumerate(zip(responses.base, responses.edited, strict=True)):
        weight = np.ones(edited.shape) if responses.excluded is None else (~responses.excluded[j]).astype(float)
        total = np.where(weight.sum(axis=1) > 0, weight.sum(axis=1), np.nan)

        def fill(x: np.ndarray, score: float) -> np.ndarray:
            return np.where(np.isnan(x), score, x)

        lowest.append(((fill(edited, low) - fill(base, high)) * weight).sum(axis=1) / total)
        highest.append(((fill(edited, high) - fill(base, low)) * weight).sum(axis=1) / total)
    return np.stack(lowest, axis=1), np.stack(highest, axis=1)


def _generator(*keys: object) -> np.random.Generator:
    digest = hashlib.sha256("\x1f".join(str(key) for key in keys).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def bootstrap_weights(
    names: tuple[tuple[str, ...], ...], labels: tuple[str, ...], *, n_boot: int, seed: int, shared: bool
) -> tuple[Float[np.ndarray, "b _"], ...]:
    """Return the number of times each bootstrap replicate draws each cluster, per measured value.

    The draws depend only on the seed, the cluster names and, unless the items are shared, the measured value. All steered
    values and methods therefore use the same draws, which makes their differences and ratios paired.

    Args:
        names: Cluster names per measured value.
        labels: Names of the measured values.
        n_boot: Bootstrap replicates.
        seed: Seed of the draws.
        shared: All measured values have the same items; they then share one array.

    Returns:
        `[b, c_j]` per measured value; NaN for a single cluster.
    """

    @cache
    def drawn(label: str, clusters: tuple[str, ...]) -> np.ndarray:
        rng = _generator("bootstrap", seed, label, *clusters)
        size = len(clusters)
        weights = rng.multinomial(size, np.full(size, 1.0 / size), size=n_boot).astype(float)
        # a single cluster cannot be resampled: NaN prevents an interval of width zero
        return weights if size > 1 else np.full_like(weights, np.nan)

    return tuple(drawn("" if shared else label, clusters) for label, clusters in zip(labels, names, strict=True))


def random_halves(
    names: tuple[tuple[str, ...], ...], labels: tuple[str, ...], *, n_splits: int, seed: int, shared: bool
) -> tuple[Bool[np.ndarray, "r _"], ...]:
    """Return random halvings of the clusters of each measured value; True marks the first half.

    Args:
        names: Cluster names per measured value.
        labels: Names of the measured values.
        n_splits: Number of halvings.
        seed: Seed of the draws.
        shared: All measured values have the same items; they then share one array.
    """

    @cache
    def halved(label: str, clusters: tuple[str, ...]) -> np.ndarray:
        rng = _generator("halves", seed, label, *clusters)
        order = np.argsort(rng.random((n_splits, len(clusters))), axis=1)
        half = np.zeros((n_splits, len(clusters)), dtype=bool)
        np.put_along_axis(half, order[:, : len(clusters) // 2], True, axis=1)
        return half

    return tuple(halved("" if shared else label, clusters) for label, clusters in zip(labels, names, strict=True))
