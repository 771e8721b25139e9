"""Selector `effect_size`: neurons whose activation differs between the poles, beyond noise and for this value only.

`g` is Hedges' g between the poles (Hedges-corrected d_z where pairs exist) with a noncentral-t interval; the screen is
Benjamini-Hochberg over the minimum-effect test of |g| > delta, with agreement in sign between halves of the clusters.
Ranked by `|g_t| - lam * max(0, leak)`, `leak = max over other values j of sign(g_t) * g_j`, g_j in j's own contrast: a
neuron that also raises another value is penalised, one that lowers the opposite value is not. The penalty is ours.
p, q and intervals treat texts as independent; `p_fwe` (with samples) flips the signs of whole clusters: quote that
one for a single neuron.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from neva_tl.activations import ActivationStats
from neva_tl.errors import InputError
from neva_tl.neurons import NeuronSet
from neva_tl.selection.base import Request, finish
from neva_tl.selection.contrast import cluster_effects, effects, split_half
from neva_tl.statistics import benjamini_hochberg, interval, minimum_effect_p, sign_flip_max_t


def effect_table(
    stats: ActivationStats,
    value: str,
    *,
    site: str = "post",
    delta: float = 0.2,
    lam: float = 1.0,
    layers: tuple[int, ...] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Effects of all neurons on one value, in (layer, neuron) order.

    Args:
        stats: activation statistics.
        value: one of the collected values.
        site: `post` or `gate`.
        delta: smallest effect of interest, in standard deviations.
        lam: weight of specificity.
        layers: layers to look at (q is over their neurons); None is all.
        level: coverage of the interval.

    Returns:
        Columns `value, layer, neuron, g, lo, hi, t, p, q, split_half` (False where the folds cannot tell), `leak`
        (largest signed effect on another value, 0 if there is none), `leak_value`, `specific` (`|g| - lam * max(0,
        leak)`), `mean_plus`, `mean_minus`, `sd` (pooled within poles, activation units).

    Raises:
        InputError: value not collected, fewer than two observations, or moments that are not finite.
    """
    estimate, test, _ = effects(stats, value, site)
    lo, hi = interval(estimate, level)
    p = minimum_effect_p(test, delta)
    agree = split_half(stats, value, site)
    leak, leak_value = _leak(stats, value, site, estimate.g)
    rows = _rows(stats, layers)
    layer, neuron = np.divmod(rows, stats.d_mlp)
    columns = {
        "g": estimate.g,
        "lo": lo,
        "hi": hi,
        "t": test.t,
        "p": p,
        "split_half": np.zeros(p.shape, dtype=bool) if agree is None else agree,
        "leak": leak,
        "leak_value": leak_value,
        "specific": np.abs(estimate.g) - lam * np.maximum(0.0, leak),
        "mean_plus": stats.moments(value, "+", site=site)[1],
        "mean_minus": stats.moments(value, "-", site=site)[1],
        "sd": stats.sd(value, site=site),
    }
    table = pd.DataFrame({"value": value, "layer": layer, "neuron": neuron})
    for name, column in columns.items():
        table[name] = column.ravel()[rows]
    table.insert(list(table.columns).index("p") + 1, "q", benjamini_hochberg(table["p"].to_numpy()))
    return table


def _rows(stats: ActivationStats, layers: tuple[int, ...] | None) -> np.ndarray:
    """Flat indices of the neurons of some layers."""
    rows = np.arange(stats.n_layers * stats.d_mlp)
    return rows if layers is None else rows[np.isin(rows // stats.d_mlp, sorted(set(layers)))]


def _leak(stats: ActivationStats, value: str, site: str, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per neuron the largest `sign(g) * g_j` over other values j, and that value's name ("" where there is no
    other)."""
    leak, index = np.zeros_like(g), np.zeros(g.shape, dtype=np.int64)
    others = [other for other in stats.values if other != value]
    for i, other in enumerate(others):
        signed = np.sign(g) * effects(stats, other, site)[0].g
        better = np.ones(g.shape, dtype=bool) if i == 0 else signed > leak
        leak, index = np.where(better, signed, leak), np.where(better, i, index)
    return leak, np.array(others or [""], dtype=object)[index]


def screen(stats: ActivationStats, request: Request) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """The effect table of the request's layers, the rows that pass the screen, and the counts after each step.

    Raises:
        InputError: split halves are required and the folds cannot be halved.
    """
    if request.require_split_half and split_half(stats, request.value, request.site) is None:
        raise InputError(
            f"split halves cannot be formed for {request.value}: its texts share one cluster, or a half lacks a pole; "
            "give more clusters, or pass require_split_half=False"
        )
    table = effect_table(
        stats, request.value, site=request.site, delta=request.delta, lam=request.lam, layers=request.layers
    )
    passed, counts = table, {}
    if request.require_q:
        passed = passed[passed["q"] <= request.alpha]
        counts["q"] = len(passed)
    if request.require_split_half:
        passed = passed[passed["split_half"]]
        counts["split_half"] = len(passed)
    return table, passed, counts


def select_by_effect_size(stats: ActivationStats, request: Request, *, flips: int = 1000) -> NeuronSet:
    """Neurons that pass the screen, by `|g_t| - lam * max(0, leak)`; those at or below 0 are not this value's and
    are left out.

    Args:
        stats: activation statistics; with samples, `p_fwe` is added.
        request: what is asked for.
        flips: sign flips behind `p_fwe`; 0 leaves it out.
    """
    table, passed, counts = screen(stats, request)
    ranked = passed.assign(score=passed["specific"])
    ranked = ranked[ranked["score"] > 0].sort_values("score", ascending=False, kind="stable")
    counts["specific"] = len(ranked)
    ranked = add_familywise(stats, request, ranked, flips)
    return finish(stats, request, "effect_size", ranked.drop(columns=["value"]), table, counts)


def add_familywise(stats: ActivationStats, request: Request, ranked: pd.DataFrame, flips: int) -> pd.DataFrame:
    """Add `p_fwe` where the samples allow: step-down max-T over cluster sign flips, null |effect| <= delta.

    The family is every neuron of the request's layers, screened out or not: a family chosen by the same data would void
    the claim.
    """
    contrast = cluster_effects(stats, request.value) if flips and request.site == "post" else None
    if contrast is None:
        return ranked
    estimate, _, flat = effects(stats, request.value, request.site)
    family = _rows(stats, request.layers)
    family = family[~flat.ravel()[family]]
    p = np.ones(stats.n_layers * stats.d_mlp)
    p[family] = sign_flip_max_t(
        contrast.reshape(len(contrast), -1)[:, family],
        request.delta * estimate.sd.ravel()[family],
        flips=flips,
        rng=np.random.default_rng(request.seed),
    )
    at = ranked["layer"].to_numpy() * stats.d_mlp + ranked["neuron"].to_numpy()
    return ranked.assign(p_fwe=p[at])
