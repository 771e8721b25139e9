"""Selection on several sources at once: neurons by the effect pooled over the sources as a random effect.

A source is the statistics of one set of prompts. Each source has an effect and its sampling variance per neuron, in standard
deviations within the poles, whether it has pairs or not. Their pooled effect is the mean over a population of sources
(`statistics.pool_effects`): a neuron that one source has and another lacks gets a wide interval, and a neuron whose sign
differs between sources is left out. Ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.statistics import (
    PooledEffect,
    benjamini_hochberg,
    check_moments,
    effect_variance,
    hedges_g,
    mean_change,
    pool_effects,
)
from neva_tl.core.theories import theory_record
from neva_tl.models import fingerprint_difference
from neva_tl.selection.base import Request, SelectionWarning, best_first, check_request, limit_of, neurons_of
from neva_tl.selection.contrast import design, effects, is_paired

#: Name of the method in neuron sets.
POOLED = "pooled"


@dataclass(frozen=True, eq=False)
class SourceEffects:
    """Effects of all neurons on one value, in each source and pooled.

    Attributes:
        names: Names of the sources.
        g: One row per source, in standard deviations within the poles.
        pooled: The pooled effects.
        usable: Neurons that vary in every source; the others have g = 0.
    """

    names: tuple[str, ...]
    g: Float[np.ndarray, "s n"]
    pooled: PooledEffect
    usable: Bool[np.ndarray, " n"]

    @property
    def agree(self) -> Bool[np.ndarray, " n"]:
        """Whether the effects of all sources have one sign."""
        return self.usable & ((self.g > 0).all(axis=0) | (self.g < 0).all(axis=0))


def check_sources(sources: Mapping[str, ActivationStats]) -> None:
    """Check that statistics are of one model and can be pooled.

    Args:
        sources: Name -> statistics of one source.

    Raises:
        InputError: There are fewer than two sources, or they differ in model, layers or pooling over tokens.
    """
    if len(sources) < 2:
        raise InputError(
            f"selection on several sources needs the statistics of two or more, not of {len(sources)}: pass "
            "{'NAME': stats, ...}, or one ActivationStats"
        )
    first, *others = sources
    for name in others:
        a, b = sources[first], sources[name]
        if difference := fingerprint_difference(a.fingerprint, b.fingerprint):
            raise InputError(
                f"{first} and {name} were collected on different models ({difference}): collect again on one"
            )
        if (a.mean.shape[-2:], a.pooling) != (b.mean.shape[-2:], b.pooling):
            raise InputError(
                f"{first} and {name} differ in layers, neurons or pooling: collect both with the same settings"
            )


def source_effects(sources: Mapping[str, ActivationStats], value: str, site: str = "post") -> SourceEffects:
    """Measure the effects of all neurons in each source, and pool them.

    Args:
        sources: Name -> statistics of one source, each of which covers the value.
        value: The value.
        site: `post` or `gate`.

    Raises:
        InputError: A source does not cover the value, has fewer than two observations, or moments that are not finite.
    """
    rows = [_source_effect(stats, value, site) for stats in sources.values()]
    usable = np.all([varies for _, _, varies in rows], axis=0)
    g = np.where(usable, [effect for effect, _, _ in rows], 0.0)
    variance = np.where(usable, [variance for _, variance, _ in rows], 1.0)
    return SourceEffects(tuple(sources), g, pool_effects(g, variance), usable)


def _source_effect(
    stats: ActivationStats, value: str, site: str
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Effects of one source, their variances, and whether neurons vary in it."""
    flat = effects(stats, value, site)[2]  # checks the moments too, and names the neuron of a bad one
    plus, minus = (check_moments(stats.moments(value, pole, site=site), f"{value} ({pole})") for pole in "+-")
    if is_paired(stats, site):
        g, variance = mean_change(stats.pair_moments(value), plus, minus)
    else:
        effect = hedges_g(plus, minus)
        g, variance = effect.g, effect_variance(effect._replace(g=np.where(np.isfinite(effect.g), effect.g, 0.0)))
    varies = ~flat & np.isfinite(g)
    return np.where(varies, g, 0.0).ravel(), variance.ravel(), varies.ravel()


def select_pooled(sources: Mapping[str, ActivationStats], request: Request) -> NeuronSet:
    """Neurons by the effect pooled over several sources.

    Kept are neurons whose effects have one sign in all sources and, where `require_q` is set, q <= alpha: Benjamini-Hochberg
    over Wald's test of |pooled effect| > delta. The score is `|pooled g| - lam * max(0, leak)`, with the largest pooled effect
    of another value that all sources have as the leak; it must be above 0. Wald's test is too liberal for two or three
    sources that differ, because tau^2 is hardly known: agreement in sign is the second condition for this reason.

    Args:
        sources: Name -> statistics of one source. Each covers the value; other values may differ.
        request: The request; its model is not run.

    Returns:
        Columns `g` (pooled), `lo`, `hi`, `se`, `tau2`, `i2`, `p`, `q`, `leak` (only with lam above 0), and `g_NAME` for each
        source. `mean_plus`, `mean_minus` and `sd` are means over the sources with equal weights (of `sd`, of its square), so
        that an edit moves neurons by the mean contrast.

    Raises:
        InputError: See `check_sources` and `selection.select`.
    """
    check_sources(sources)
    for stats in sources.values():
        check_request(stats, request)
    first = next(iter(sources.values()))
    at = neurons_of(first, request.layers)
    measured = source_effects(sources, request.value, request.site)
    pooled = PooledEffect(*(array[at] for array in measured.pooled))
    p = np.where(measured.usable[at], pooled.p(request.delta), 1.0)
    q, agree = benjamini_hochberg(p), measured.agree[at]
    leak = _leak(sources, request, pooled.effect, at) if request.lam > 0 else None
    score = np.abs(pooled.effect) - (0.0 if leak is None else request.lam * np.maximum(0.0, leak))
    counts, passed = {"neurons": len(at)}, np.ones(len(at), dtype=bool)
    if request.require_q:
        passed &= q <= request.alpha
        counts["q"] = int(passed.sum())
    passed &= agree
    counts["agree"] = int(passed.sum())
    passed &= score > 0
    counts["specific"] = int(passed.sum())
    candidates = np.flatnonzero(passed)
    best = candidates[best_first(score[candidates], limit_of(first, request))]
    layer, neuron = np.divmod(at[best], first.d_mlp)
    lo, hi = pooled.interval()
    columns = {
        "layer": layer,
        "neuron": neuron,
        "rank": np.arange(1, len(best) + 1),
        "g": pooled.effect[best],
        "lo": lo[best],
        "hi": hi[best],
        "se": pooled.se[best],
        "tau2": pooled.tau2[best],
        "i2": pooled.i2[best],
        "p": p[best],
        "q": q[best],
        **({} if leak is None else {"leak": leak[best]}),
        **{f"g_{name}": row[at[best]] for name, row in zip(measured.names, measured.g, strict=True)},
        **_mean_contrast(sources, request, at[best]),
        "score": score[best],
    }
    settings: dict[str, Any] = {
        **request.settings(),
        "sources": {
            name: {**design(stats, request.value, request.site), "prompt_hash": stats.prompt_hash}
            for name, stats in sources.items()
        },
        "counts": {**counts, "selected": len(best)},
        **theory_record(first.theory, [request.value]),
    }
    _warn_if_short(request, len(best), settings["counts"])
    return NeuronSet(
        value=request.value,
        method=POOLED,
        df=pd.DataFrame(columns),
        n_layers=first.model_layers,
        d_mlp=first.d_mlp,
        site=request.site,
        fingerprint=first.fingerprint,
        settings=settings,
    )


def _leak(
    sources: Mapping[str, ActivationStats], request: Request, g: Float[np.ndarray, " n"], at: np.ndarray
) -> Float[np.ndarray, " n"]:
    """Per neuron the largest `sign(g) * g_j` over the other values j of all sources; 0 without any."""
    first, *rest = sources.values()
    common = [name for name in first.values if name != request.value and all(name in stats.values for stats in rest)]
    others = [source_effects(sources, name, request.site).pooled.effect[at] * np.sign(g) for name in common]
    return np.max(others, axis=0) if others else np.zeros_like(g)


def _mean_contrast(sources: Mapping[str, ActivationStats], request: Request, at: np.ndarray) -> dict[str, np.ndarray]:
    """The poles' means and the spread of some neurons, with equal weights over the sources."""
    value, site, each = request.value, request.site, list(sources.values())

    def mean(arrays: list[Any]) -> np.ndarray:
        return np.asarray(np.mean(arrays, axis=0))

    return {
        "mean_plus": mean([stats.moments(value, "+", site=site, at=at)[1] for stats in each]),
        "mean_minus": mean([stats.moments(value, "-", site=site, at=at)[1] for stats in each]),
        "sd": np.sqrt(mean([stats.sd(value, site=site, at=at) ** 2 for stats in each])),
    }


def _warn_if_short(request: Request, selected: int, counts: Mapping[str, int]) -> None:
    steps = ", ".join(f"{name} {count}" for name, count in counts.items())
    if not selected:
        message = (
            f"no neuron is left for {request.value} on all sources ({steps}); more pairs, or require_q=False, may help"
        )
        warnings.warn(message, SelectionWarning, stacklevel=4)
    elif request.k is not None and request.k_requested and selected < request.k:
        message = f"{request.value}: {selected} neurons pass on all sources, fewer than the k = {request.k} requested ({steps})"
        warnings.warn(message, SelectionWarning, stacklevel=4)
