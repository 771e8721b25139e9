"""The contrast of a value's poles: design, effects, halves, cluster effects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Bool, Float, Int

from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.core.statistics import (
    Effect,
    check_moments,
    cluster_means,
    halves_of_folds,
    hedges_g,
    paired_g,
    split_half_agreement,
    welch_effect,
)

#: A neuron whose spread is below this share of its mean varies by float32 round-off only: it has no effect size.
_ROUND_OFF = 1e-6
#: Block size in neurons: eight float64 arrays of this length fit in a core's L2 cache.
_BLOCK = 2**13
#: Fewer clusters than this cannot give a familywise p-value of .05 by sign flips (2 of 2^6 draws).
_LEAST_CLUSTERS = 6


def is_paired(stats: ActivationStats, site: str = "post") -> bool:
    """Whether the paired design is used.

    Every value must have pairs, and pairs must hold at least half of its texts.

    One design serves all values of the statistics, because specificity compares their effects and d_z is not on the scale of
    g. Pair differences are collected at site `post` only; the gate's effects are unpaired.

    Args:
        stats: The statistics.
        site: `post` or `gate`.
    """
    pairs = stats.diff_n.sum(axis=-1)
    return site == "post" and bool(((pairs >= 2) & (4 * pairs >= stats.n.sum(axis=(1, 2)))).all())


def design(stats: ActivationStats, value: str, site: str = "post") -> dict[str, Any]:
    """The sample of a value's effects, as plain data: design, pairs, texts per pole.

    Args:
        stats: The statistics.
        value: The value.
        site: `post` or `gate`.
    """
    v = stats.index(value)
    return {
        "design": "paired" if is_paired(stats, site) else "unpaired",
        "n_pairs": int(stats.diff_n[v].sum()),
        "n_plus": int(stats.n[v, 0].sum()),
        "n_minus": int(stats.n[v, 1].sum()),
    }


def effects(stats: ActivationStats, value: str, site: str = "post") -> tuple[Effect, Effect, Bool[np.ndarray, "l k"]]:
    """Effects of all neurons, cached per statistics, value and site.

    The cache matters because every value's specificity reads all other values' effects.

    Args:
        stats: The statistics.
        value: The value.
        site: `post` or `gate`.

    Returns:
        An effect for g and its interval, an effect for tests, and which neurons have no spread (g = 0 and t = 0). Paired: both
        effects are d_z of the pair differences. Unpaired: Hedges' g, with Student's t for the interval and Welch's t for
        tests. The arrays are read-only.

    Raises:
        InputError: There are fewer than two observations, or moments are not finite (the message names layer and neuron).
    """
    return once(stats, ("effects", value, site), lambda: _effects(stats, value, site))


def halves(stats: ActivationStats, value: str, site: str = "post") -> tuple[list[int], list[int]] | None:
    """Two halves of the folds that share no cluster.

    Args:
        stats: The statistics.
        value: The value.
        site: `post` or `gate`.

    Returns:
        The folds of each half; None if fewer than two folds hold prompts, or a half lacks a pole.
    """
    v, paired = stats.index(value), is_paired(stats, site)
    try:
        both = halves_of_folds(stats.diff_n[v] if paired else stats.n[v].sum(axis=0))
    except InputError:
        return None
    if not paired and any(stats.n[v, pole, half].sum() == 0 for pole in (0, 1) for half in both):
        return None
    return both


def split_half(stats: ActivationStats, value: str, site: str, at: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Whether neurons' mean differences have one sign in both halves.

    False if the folds have no halves.

    Computed on demand, because a selection needs it for few neurons.

    Args:
        stats: The statistics.
        value: The value.
        site: `post` or `gate`.
        at: Flat numbers of the neurons.
    """
    both = halves(stats, value, site)
    agree = np.zeros(len(at), dtype=bool)
    if both is None:
        return agree
    paired = is_paired(stats, site)
    for start in range(0, len(at), _BLOCK):
        block = at[start : start + _BLOCK]
        first, second = (
            stats.pair_moments(value, half, block)[1]
            if paired
            else stats.moments(value, "+", half, site, block)[1] - stats.moments(value, "-", half, site, block)[1]
            for half in both
        )
        agree[start : start + _BLOCK] = split_half_agreement(first, second)
    return agree


#: Cached measurements per statistics. An entry is dropped with its statistics, so nothing in it may refer to them.
_MEASURED: WeakKeyDictionary[ActivationStats, dict[tuple[str, str, str], Any]] = WeakKeyDictionary()


def once(stats: ActivationStats, key: tuple[str, str, str], measure: Callable[[], Any]) -> Any:
    """The result of `measure`, cached for these statistics and this key.

    Args:
        stats: The statistics.
        key: Name of the measurement.
        measure: Computes it; the result must not refer to `stats`.
    """
    cache = _MEASURED.setdefault(stats, {})
    if key not in cache:
        cache[key] = measure()
    return cache[key]


def _blocks(stats: ActivationStats) -> Iterator[slice]:
    """Blocks of neurons whose float64 copies stay in the processor's cache."""
    total = stats.n_layers * stats.d_mlp
    return (slice(start, min(start + _BLOCK, total)) for start in range(0, total, _BLOCK))


def _effects(stats: ActivationStats, value: str, site: str) -> tuple[Effect, Effect, np.ndarray]:
    paired, shape = is_paired(stats, site), (stats.n_layers, stats.d_mlp)
    flat = np.empty(shape, dtype=bool)
    # fields with one entry for all neurons (of paired effects, and of Student's t) are copied as they are
    fields: list[dict[str, Any]] = [{}, {}]
    for block in _blocks(stats):
        try:
            *block_effects, flat.ravel()[block] = _block_effects(stats, value, site, block, paired)
        except InputError:
            # the message must name a neuron of the model, not of the block
            _block_effects(stats, value, site, None, paired)
            raise
        for arrays, effect in zip(fields, block_effects[: 1 if paired else 2], strict=False):
            for name, array in effect._asdict().items():
                if arrays is fields[1] and name in ("g", "sd"):
                    continue
                if not isinstance(array, np.ndarray) or not array.ndim:
                    arrays[name] = array
                    continue
                if name not in arrays:
                    arrays[name] = np.empty(shape)
                arrays[name].ravel()[block] = array
    for array in (flat, *fields[0].values(), *fields[1].values()):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    estimate = Effect(**fields[0])
    if paired:
        return estimate, estimate, flat
    # both effects share the arrays of g and sd
    return estimate, Effect(**fields[1], g=estimate.g, sd=estimate.sd), flat


def _block_effects(
    stats: ActivationStats, value: str, site: str, at: slice | None, paired: bool
) -> tuple[Effect, Effect, np.ndarray]:
    plus = check_moments(stats.moments(value, "+", site=site, at=at), f"{value} (+) at {site}")
    minus = check_moments(stats.moments(value, "-", site=site, at=at), f"{value} (-) at {site}")
    if paired:
        estimate = test = paired_g(check_moments(stats.pair_moments(value, at=at), f"{value} (pair differences)"))
    else:
        estimate, test = hedges_g(plus, minus), welch_effect(plus, minus)
    flat = estimate.sd <= _ROUND_OFF * np.maximum(np.abs(plus.mean), np.abs(minus.mean))
    return _silence(estimate, flat), _silence(test, flat), np.asarray(flat)


def _silence(effect: Effect, flat: np.ndarray) -> Effect:
    if not flat.any():
        return effect
    return effect._replace(g=np.where(flat, 0.0, effect.g), t=np.where(flat, 0.0, effect.t))


def cluster_effects(stats: ActivationStats, value: str) -> Float[np.ndarray, "m l k"] | None:
    """Per cluster, the mean activation on + minus the mean on -, from the samples.

    Args:
        stats: The statistics.
        value: The value.

    Returns:
        The differences; None without samples, or if fewer than six clusters, or clusters with less than half of the texts,
        hold both poles: flipping signs by cluster needs a contrast within each.
    """
    if stats.samples is None:
        return None
    table = stats.samples.table.reset_index(drop=True)
    table = table[table["value"] == value]
    poles = table.groupby("cluster")["pole"].nunique()
    both = table[table["cluster"].isin(poles.index[poles == 2])]
    if both["cluster"].nunique() < _LEAST_CLUSTERS or 2 * len(both) < len(table):
        return None
    means = []
    for pole in ("+", "-"):
        rows = both[both["pole"] == pole]
        means.append(cluster_means(stats.samples.h[rows.index.to_numpy()], rows["cluster"].to_numpy())[0])
    return means[0] - means[1]


def probe_rows(
    stats: ActivationStats, value: str, *, others: int = 40, seed: int = 0
) -> tuple[Int[np.ndarray, " n"], Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Training rows of a value's probe.

    Its + texts against its - texts and the + texts of other values.

    Args:
        stats: Statistics with samples.
        value: The value.
        others: Number of + texts of each other value among the negatives, drawn at random.
        seed: Seed of that draw.

    Returns:
        Row numbers in the samples (ascending), whether a row is positive, and whether it is one of the value's own - texts.

    Raises:
        InputError: The statistics hold no samples.
    """
    if stats.samples is None:
        raise InputError("probes need the prompts' own activations: collect with samples=True (or a path)")
    table = stats.samples.table
    target = table["value"] == value
    rng = np.random.default_rng(seed)
    positive = np.flatnonzero(target & (table["pole"] == "+"))
    negative = [np.flatnonzero(target & (table["pole"] == "-"))]
    for name in stats.values:
        rows = np.flatnonzero((table["value"] == name) & (table["pole"] == "+"))
        if name != value:
            negative.append(rng.permutation(rows)[:others])
    rows = np.sort(np.concatenate([positive, *negative]))
    return rows, np.isin(rows, positive), np.isin(rows, negative[0])
