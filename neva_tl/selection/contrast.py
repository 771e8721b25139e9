"""The contrast of one value's two poles, read from ActivationStats: design, effects, halves, cluster effects."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from neva_tl.activations import ActivationStats
from neva_tl.errors import InputError
from neva_tl.statistics import (
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
#: Fewer clusters than this cannot give a familywise p-value of .05 by sign flips (2 of 2^6 draws).
_LEAST_CLUSTERS = 6


def is_paired(stats: ActivationStats, site: str = "post") -> bool:
    """Whether the paired design is used: every value has pairs, and pairs hold at least half of its texts.

    One design serves all values of the statistics, because specificity compares their effects and d_z is not on the
    scale of g. Pair differences are collected at site `post` only; the gate's effects are unpaired.
    """
    pairs = stats.diff_n.sum(axis=-1)
    return site == "post" and bool(((pairs >= 2) & (4 * pairs >= stats.n.sum(axis=(1, 2)))).all())


def design(stats: ActivationStats, value: str, site: str = "post") -> dict[str, Any]:
    """What stands behind an effect, as plain data: design, pairs, texts per pole."""
    v = stats.index(value)
    return {
        "design": "paired" if is_paired(stats, site) else "unpaired",
        "n_pairs": int(stats.diff_n[v].sum()),
        "n_plus": int(stats.n[v, 0].sum()),
        "n_minus": int(stats.n[v, 1].sum()),
    }


def effects(stats: ActivationStats, value: str, site: str = "post") -> tuple[Effect, Effect, Bool[np.ndarray, "l k"]]:
    """Effects of all neurons: one for g and its interval, one for tests, and which neurons have no spread.

    Paired: both are d_z of the pair differences. Unpaired: Hedges' g with Student's t for the interval, with Welch's
    t for tests. Neurons without spread get g = 0 and t = 0.

    Raises:
        InputError: fewer than two observations, or moments that are not finite (layer and neuron named).
    """
    plus = check_moments(stats.moments(value, "+", site=site), f"{value} (+) at {site}")
    minus = check_moments(stats.moments(value, "-", site=site), f"{value} (-) at {site}")
    if is_paired(stats, site):
        estimate = test = paired_g(check_moments(stats.pair_moments(value), f"{value} (pair differences)"))
    else:
        estimate, test = hedges_g(plus, minus), welch_effect(plus, minus)
    flat = estimate.sd <= _ROUND_OFF * np.maximum(np.abs(plus.mean), np.abs(minus.mean))
    return _silence(estimate, flat), _silence(test, flat), np.asarray(flat)


def _silence(effect: Effect, flat: np.ndarray) -> Effect:
    if not flat.any():
        return effect
    return effect._replace(g=np.where(flat, 0.0, effect.g), t=np.where(flat, 0.0, effect.t))


def split_half(stats: ActivationStats, value: str, site: str = "post") -> Bool[np.ndarray, "l k"] | None:
    """Whether a neuron's mean difference has one sign in two halves of the folds that share no cluster.

    None where the statistics cannot tell: fewer than two folds hold prompts, or a half lacks a pole.
    """
    v = stats.index(value)
    paired = is_paired(stats, site)
    counts = stats.diff_n[v] if paired else stats.n[v].sum(axis=0)
    try:
        halves = halves_of_folds(counts)
    except InputError:
        return None
    if not paired and any(stats.n[v, pole, half].sum() == 0 for pole in (0, 1) for half in halves):
        return None
    first, second = (
        stats.pair_moments(value, fold=half)[1]
        if paired
        else stats.moments(value, "+", half, site)[1] - stats.moments(value, "-", half, site)[1]
        for half in halves
    )
    return split_half_agreement(first, second)


def cluster_effects(stats: ActivationStats, value: str) -> Float[np.ndarray, "m l k"] | None:
    """Per cluster, the mean activation on + minus the mean on -, from the samples.

    None without samples, or where fewer than six clusters, or clusters with less than half of the texts, hold both
    poles: flipping signs by cluster needs a contrast within each.
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
    """Samples that a probe of one value learns from: its + texts against its - texts and + texts of other values.

    Args:
        stats: collected with samples.
        value: the value.
        others: + texts of each other value among the negatives, drawn at random.
        seed: of that draw.

    Returns:
        Row numbers in the samples (ascending), whether a row is positive, and whether it is one of the value's own -.

    Raises:
        InputError: the statistics carry no samples.
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
