"""Selector `effect_size`: neurons that differ between a value's poles.

The difference must exceed noise and be specific to the value.

`g` is Hedges' g between the poles (Hedges-corrected d_z where pairs exist) with a noncentral-t interval; the screen is
Benjamini-Hochberg over the minimum-effect test of |g| > delta, with agreement in sign between halves of the clusters.
Ranked by `|g_t| - lam * max(0, leak)`, `leak = max over other values j of sign(g_t) * g_j`, g_j in j's own contrast: a
neuron that also raises another value is penalised, one that lowers the opposite value is not. The penalty is ours.
p, q and intervals treat texts as independent; `p_fwe` (with samples) flips the signs of whole clusters and is the p-value to
quote for a single neuron.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from neva_tl.activations import ActivationStats
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.statistics import (
    Effect,
    StepUp,
    benjamini_hochberg,
    interval,
    least_t,
    minimum_effect_p,
    sign_flip_max_t,
    step_up_p,
)
from neva_tl.core.theories import ValueName
from neva_tl.selection.base import Request, best_first, check_request, family_size, finish, limit_of, neurons_of
from neva_tl.selection.contrast import cluster_effects, effects, halves, split_half


@check_arguments
def effect_table(
    stats: ActivationStats,
    value: ValueName,
    *,
    site: str = "post",
    delta: float = 0.2,
    lam: float = 1.0,
    layers: tuple[int, ...] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Effects of all neurons on one value, in (layer, neuron) order.

    Args:
        stats: Activation statistics.
        value: One of the collected values.
        site: `post` or `gate`.
        delta: Smallest effect of interest, in standard deviations.
        lam: Weight of specificity.
        layers: Layers to read (q is over their neurons); None is all.
        level: Coverage of the interval.

    Returns:
        Columns `value, layer, neuron, g, lo, hi, t, p, q, split_half` (False if the folds have no halves), `leak` (largest
        signed effect on another value, 0 if there is none), `leak_value`, `specific` (`|g| - lam * max(0, leak)`),
        `mean_plus`, `mean_minus`, `sd` (pooled within poles, activation units).

    Raises:
        InputError: The value was not collected, there are fewer than two observations, or moments are not finite.

    Example:
        >>> table = nv.effect_table(stats, "power")  # every neuron
        >>> len(table), {"g", "p", "q"} <= set(table.columns)
        (1536, True)
    """
    request = Request(value, delta=delta, lam=lam, layers=layers, site=site)  # type: ignore[arg-type]
    check_request(stats, request)
    return measure_neurons(stats, request, level=level).frame()


@dataclass(frozen=True, eq=False)
class MeasuredNeurons:
    """Neurons of a family with their p and q.

    Attributes:
        stats: The statistics.
        value: The value.
        site: `post` or `gate`.
        lam: Weight of specificity.
        level: Coverage of the interval.
        at: Flat numbers of the neurons.
        p: p-value of each neuron.
        q: q-value of each neuron, over the entire family.
    """

    stats: ActivationStats
    value: str
    site: str
    lam: float
    level: float
    at: np.ndarray
    p: np.ndarray
    q: np.ndarray

    def __len__(self) -> int:
        return len(self.at)

    def take(self, index: np.ndarray) -> MeasuredNeurons:
        """A subset, in the order of the index.

        Args:
            index: Indices, or a mask.
        """
        return replace(self, at=self.at[index], p=self.p[index], q=self.q[index])

    @property
    def split_half(self) -> Bool[np.ndarray, " n"]:
        """Whether both halves agree in sign; False if the folds have no halves."""
        return split_half(self.stats, self.value, self.site, self.at)

    @property
    def specific(self) -> Float[np.ndarray, " n"]:
        """`|g| - lam * max(0, leak)`."""
        g = _g(self.stats, self.value, self.site, self.at)
        return np.abs(g) - self.lam * np.maximum(0.0, _leak(self.stats, self.value, self.site, self.at, g)[0])

    def frame(self) -> pd.DataFrame:
        """The columns of `effect_table`, one row per neuron in the order of `at`."""
        stats, site, at = self.stats, self.site, self.at
        estimate, test, _ = effects(stats, self.value, site)
        g = estimate.g.ravel()[at]
        lo, hi = interval(_at(estimate, at), self.level)
        leak, leak_value = _leak(stats, self.value, site, at, g)
        layer, neuron = np.divmod(at, stats.d_mlp)
        columns = {
            "value": self.value,
            "layer": layer,
            "neuron": neuron,
            "g": g,
            "lo": lo,
            "hi": hi,
            "t": test.t.ravel()[at],
            "p": self.p,
            "q": self.q,
            "split_half": self.split_half,
            "leak": leak,
            "leak_value": leak_value,
            "specific": np.abs(g) - self.lam * np.maximum(0.0, leak),
            "mean_plus": stats.moments(self.value, "+", site=site, at=at)[1],
            "mean_minus": stats.moments(self.value, "-", site=site, at=at)[1],
            "sd": stats.sd(self.value, site=site, at=at),
        }
        return pd.DataFrame(columns)


def measure_neurons(
    stats: ActivationStats, request: Request, at: np.ndarray | None = None, *, level: float = 0.95
) -> MeasuredNeurons:
    """Test the neurons of a request's layers against delta, as one family.

    Args:
        stats: Activation statistics.
        request: The request: value, site, delta, lam and layers are read.
        at: Flat numbers of the neurons to return; None is all of the family.
        level: Coverage of the interval.

    Raises:
        InputError: See `effect_table`.
    """
    family = neurons_of(stats, request.layers)
    test = effects(stats, request.value, request.site)[1]
    p = minimum_effect_p(test if request.layers is None else _at(test, family), request.delta).ravel()
    if at is None:
        at, q = family, benjamini_hochberg(p)
    else:
        rule = step_up_p(p, 1.0, len(p))
        p = p[np.searchsorted(family, at)]
        q = _q(p, rule)
    return MeasuredNeurons(stats, request.value, request.site, request.lam, level, at, p, q)


def _at(effect: Effect, at: np.ndarray) -> Effect:
    """The effects of some neurons; fields that all neurons share are unchanged."""
    arrays: dict[str, Any] = {
        name: array.ravel()[at]
        for name, array in effect._asdict().items()
        if isinstance(array, np.ndarray) and array.ndim
    }
    return effect._replace(**arrays)


def _g(stats: ActivationStats, value: str, site: str, at: np.ndarray) -> Float[np.ndarray, " n"]:
    return effects(stats, value, site)[0].g.ravel()[at]


def _q(p: np.ndarray, rule: StepUp) -> np.ndarray:
    """The q-value of each p-value; equal p have equal q."""
    return rule.q[np.searchsorted(rule.p, p, side="right") - 1]


def _leak(
    stats: ActivationStats, value: str, site: str, at: np.ndarray, g: np.ndarray
) -> tuple[Float[np.ndarray, " n"], np.ndarray]:
    """Per neuron the largest `sign(g) * g_j` over other values j, and that value.

    The name is empty without other values.
    """
    leak, index, sign = np.zeros_like(g), np.zeros(g.shape, dtype=np.int64), np.sign(g)
    others = [other for other in stats.values if other != value]
    for i, other in enumerate(others):
        signed = sign * _g(stats, other, site, at)
        better = np.ones(g.shape, dtype=bool) if i == 0 else signed > leak
        leak[better], index[better] = signed[better], i
    return leak, np.array(others or [""], dtype=object)[index]


def screen(stats: ActivationStats, request: Request) -> tuple[MeasuredNeurons, dict[str, int]]:
    """The neurons of the request's layers that pass the screen, in the model's order.

    Args:
        stats: Activation statistics.
        request: The request.

    Returns:
        The neurons, and step -> number of neurons that remain after it.

    Raises:
        InputError: Split halves are required and the folds have none.
    """
    value, site = request.value, request.site
    if request.require_split_half and halves(stats, value, site) is None:
        raise InputError(
            f"split halves cannot be formed for {value}: its texts share one cluster, or a half lacks a pole; "
            "give more clusters, or pass require_split_half=False"
        )
    counts = {}
    if request.require_q:
        passed = _screen_q(stats, request)
        counts["q"] = len(passed)
    else:
        passed = measure_neurons(stats, request)
    if request.require_split_half:
        passed = passed.take(passed.split_half)
        counts["split_half"] = len(passed)
    return passed, counts


def _screen_q(stats: ActivationStats, request: Request) -> MeasuredNeurons:
    """The neurons with `q <= alpha`.

    A p-value that cannot pass is not computed, because each takes long.
    """
    test, family = effects(stats, request.value, request.site)[1], family_size(stats, request.layers)
    size = np.abs(test.t).ravel()
    if request.layers is not None:
        size = np.where(np.isin(np.arange(size.size) // stats.d_mlp, request.layers), size, -1.0)
    at = np.flatnonzero(size >= 0)
    # the rule rejects no p above alpha * (rejections / family), and the t bound of a level passes at least all p up to it;
    # so each count gives a lower level. Above .5 the bound does not hold
    level, lower = np.inf, request.alpha
    while lower < 0.9 * level and lower <= 0.5 and len(at):
        level = lower
        at = at[size[at] >= least_t(test, level, request.delta)]
        lower = request.alpha * len(at) / family
    p = minimum_effect_p(_at(test, at), request.delta)
    rule = step_up_p(p, request.alpha, family)
    at, p = at[p <= rule.largest], p[p <= rule.largest]
    return MeasuredNeurons(stats, request.value, request.site, request.lam, 0.95, at, p, _q(p, rule))


def select_by_effect_size(stats: ActivationStats, request: Request, *, flips: int = 1000) -> NeuronSet:
    """Neurons that pass the screen, by specific effect.

    The score is `|g_t| - lam * max(0, leak)`; it must be above 0.

    Args:
        stats: Activation statistics; with samples, `p_fwe` is added.
        request: The request.
        flips: Number of sign flips for `p_fwe`; 0 omits it.
    """
    passed, counts = screen(stats, request)
    score = passed.specific
    passed, score = passed.take(score > 0), score[score > 0]
    counts["specific"] = len(passed)
    best = best_first(score, limit_of(stats, request))
    ranked = passed.take(best).frame().assign(score=score[best])
    ranked = add_familywise(stats, request, ranked, flips)
    return finish(stats, request, "effect_size", ranked.drop(columns=["value"]), counts)


def add_familywise(stats: ActivationStats, request: Request, ranked: pd.DataFrame, flips: int) -> pd.DataFrame:
    """Add `p_fwe` if the samples allow it.

    Step-down max-T over cluster sign flips, with the null |effect| <= delta.

    The family is every neuron of the request's layers, whether it passed the screen or not: a family selected on the same data
    would invalidate the test.

    Args:
        stats: Activation statistics.
        request: The request.
        ranked: Selected neurons with columns `layer` and `neuron`.
        flips: Number of sign flips; 0 returns the table unchanged.
    """
    contrast = cluster_effects(stats, request.value) if flips and request.site == "post" else None
    if contrast is None:
        return ranked
    estimate, _, flat = effects(stats, request.value, request.site)
    family = neurons_of(stats, request.layers)
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
