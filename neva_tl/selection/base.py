"""What every selector shares: the request, its checks, and the last step from a ranked table to a NeuronSet."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet, Site
from neva_tl.core.statistics import detectable_g, pairs_needed
from neva_tl.selection.contrast import design, effects

#: Without k a selector keeps all neurons that pass, up to this share of the model (or `_SMALL`, if that is more).
MAX_SHARE = 1 / 30
_SMALL = 64
#: The power that selections state.
POWER = 0.8


class SelectionWarning(UserWarning):
    """A selection that came out empty or shorter than asked for, or rests on a probe that did not converge."""


@dataclass(frozen=True)
class Request:
    """What is asked of a selector.

    Attributes:
        value: one of the ten.
        k: neurons to keep; None keeps all that pass, at most `default_k`.
        model: the model, for selectors that read weights.
        alpha: false discovery rate of the screen.
        delta: smallest effect of interest in standard deviations: the screen tests |g| > delta.
        lam: weight of specificity, `|g_t| - lam * max(0, max_j sign(g_t) g_j)`; 0 ranks by |g| alone.
        require_split_half: keep only neurons whose effect has one sign in both halves of the folds.
        require_q: keep only neurons with q <= alpha.
        layers: layers to choose from; None is all. The tests' family is the neurons of these layers.
        site: `post` or `gate`.
        seed: of every random draw.
        options: the selector's own options.
    """

    value: str
    k: int | None = None
    model: Any = None
    alpha: float = 0.05
    delta: float = 0.2
    lam: float = 1.0
    require_split_half: bool = True
    require_q: bool = True
    layers: tuple[int, ...] | None = None
    site: Site = "post"
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """The request as plain data for the neuron set's file (without the model)."""
        return {
            "k": self.k,
            "alpha": self.alpha,
            "delta": self.delta,
            "lam": self.lam,
            "require_split_half": self.require_split_half,
            "require_q": self.require_q,
            "layers": None if self.layers is None else list(self.layers),
            "seed": self.seed,
            "options": dict(self.options),
        }


def default_k(n_neurons: int) -> int:
    """Most neurons kept when no k is given: a thirtieth of the model (1,536 of SmolLM2's 46,080), at least 64."""
    return min(n_neurons, max(_SMALL, int(n_neurons * MAX_SHARE)))


def family_size(stats: ActivationStats, layers: tuple[int, ...] | None) -> int:
    """How many neurons some layers have; None is all layers."""
    return (stats.n_layers if layers is None else len(set(layers))) * stats.d_mlp


def limit_of(stats: ActivationStats, request: Request) -> int:
    """Most neurons that a request keeps."""
    return default_k(family_size(stats, request.layers)) if request.k is None else request.k


def check_request(stats: ActivationStats, request: Request) -> None:
    """Refuse a request that the statistics cannot serve.

    Raises:
        InputError: value not collected, k below 1 or above the number of neurons, a layer the model lacks, alpha,
            delta or lam out of range, or a model other than the one the statistics come from.
    """
    stats.index(request.value)
    for layer in request.layers or ():
        if not 0 <= layer < stats.n_layers:
            where = "the model has" if stats.n_layers == stats.model_layers else "these statistics hold"
            raise InputError(f"layer {layer} does not exist: {where} layers 0 to {stats.n_layers - 1}")
    if request.layers is not None and not request.layers:
        raise InputError("no layers to choose from: name at least one, or leave layers out for all")
    total = family_size(stats, request.layers)
    if request.k is not None and not 1 <= request.k <= total:
        where = "the model has" if request.layers is None else f"layers {sorted(set(request.layers))} have"
        raise InputError(f"k = {request.k} is not possible: {where} {total} neurons; choose k from 1 to {total}")
    if not 0 < request.alpha < 1:
        raise InputError(f"alpha = {request.alpha} is not between 0 and 1")
    if request.delta < 0 or request.lam < 0:
        raise InputError(f"delta and lam must not be negative: got delta = {request.delta}, lam = {request.lam}")
    if request.model is not None and stats.fingerprint:
        from neva_tl.models import fingerprint

        if dict(fingerprint(request.model)) != dict(stats.fingerprint):
            raise InputError("these statistics were collected on another model: collect again on this one")


def need_model(request: Request, why: str) -> Any:
    """The request's model.

    Raises:
        InputError: there is none; `why` says what it is needed for.
    """
    if request.model is None:
        raise InputError(f"{why} reads the model's weights: pass model=... to select")
    return request.model


def neurons_of(stats: ActivationStats, layers: tuple[int, ...] | None) -> Int[np.ndarray, " n"]:
    """Flat numbers (layer * d_mlp + neuron) of the neurons of some layers, ascending; None is all layers."""
    first = np.arange(stats.n_layers) if layers is None else np.unique(layers)
    return (first[:, None] * stats.d_mlp + np.arange(stats.d_mlp)).ravel()


def best_first(score: Float[np.ndarray, " n"], most: int | None = None) -> Int[np.ndarray, " m"]:
    """Positions of the highest scores, best first, equal ones in their own order; at most `most`."""
    found = np.arange(len(score))
    if most is not None and most < len(score):
        least = np.partition(score, len(score) - most)[len(score) - most]
        found = np.flatnonzero(score >= least)
    return found[np.argsort(-score[found], kind="stable")][:most]


def finish(
    stats: ActivationStats, request: Request, method: str, ranked: pd.DataFrame, counts: dict[str, int]
) -> NeuronSet:
    """Cut the ranked candidates at k and wrap them; warn when nothing, or less than asked for, is left.

    Args:
        stats: the statistics.
        request: what was asked for.
        method: the selector's name.
        ranked: candidates, best first, with a `score` column.
        counts: neurons left after each step, by name, in order.
    """
    tested = family_size(stats, request.layers)
    kept = ranked.head(limit_of(stats, request)).reset_index(drop=True)
    kept.insert(2, "rank", np.arange(1, len(kept) + 1))
    behind = design(stats, request.value, request.site)
    settings = {
        **request.settings(),
        **behind,
        "power": _power(request, behind, tested),
        "counts": {"neurons": tested, **counts, "selected": len(kept)},
    }
    if not len(kept):
        g = effects(stats, request.value, request.site)[0].g.ravel()[neurons_of(stats, request.layers)]
        warnings.warn(_nothing_left(request, settings, float(np.abs(g).max()), tested), SelectionWarning, stacklevel=4)
    elif request.k is not None and len(kept) < request.k:
        warnings.warn(
            f"{request.value}: {len(kept)} neurons pass, fewer than the k = {request.k} asked for ({_steps(settings)})",
            SelectionWarning,
            stacklevel=4,
        )
    return NeuronSet(
        value=request.value,
        method=method,
        df=kept,
        n_layers=stats.model_layers,
        d_mlp=stats.d_mlp,
        site=request.site,
        fingerprint=stats.fingerprint,
        settings=settings,
    )


def _steps(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in settings["counts"].items())


def _size(behind: Mapping[str, Any]) -> tuple[bool, str, int]:
    """Whether the design is paired, what its observations are called, and their number (per pole where unpaired)."""
    if behind["design"] == "paired":
        return True, "pairs", int(behind["n_pairs"])
    return False, "texts per pole", int(min(behind["n_plus"], behind["n_minus"]))


def _power(request: Request, behind: Mapping[str, Any], tested: int) -> dict[str, Any]:
    """Which effects the screen's test finds with 80 % power: one neuron tested alone, and each of all (alpha / number).

    Benjamini and Hochberg's threshold lies between the two: the more neurons carry the value, the nearer the first.
    """
    paired, unit, have = _size(behind)
    levels = {"alone": request.alpha, "all": request.alpha / max(tested, 1)}
    found = {
        name: detectable_g(have, power=POWER, alpha=alpha, delta=request.delta, paired=paired)
        if alpha < POWER
        else None
        for name, alpha in levels.items()
    }
    return {"power": POWER, "n": have, "unit": unit, "neurons": tested, "detectable_g": found}


def _nothing_left(request: Request, settings: Mapping[str, Any], largest: float, tested: int) -> str:
    """The warning of an empty selection, with how many pairs would make the largest effect seen detectable."""
    paired, unit, have = _size(settings)
    head = f"no neuron is left for {request.value} ({_steps(settings)}); "
    if largest <= request.delta:
        return head + (
            f"the largest |g| of {have} {unit} is {largest:.2f}, within delta = {request.delta}: more {unit} would not "
            "help, stronger contrasts or a smaller delta might"
        )
    needed = pairs_needed(largest, alpha=request.alpha / tested, delta=request.delta, paired=paired)
    alone = pairs_needed(largest, alpha=request.alpha, delta=request.delta, paired=paired)
    return head + (
        f"with {have} {unit} the largest |g| is {largest:.2f}; an effect of that size needs about {needed} {unit} for "
        f"80 % power against |g| <= {request.delta} when all {tested} neurons are tested ({alone} for one alone)"
    )
