"""Shared parts of the selectors: the request, its checks, the final selection."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from neva_tl.activations import ActivationStats
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet, Site
from neva_tl.core.statistics import detectable_g, pairs_needed
from neva_tl.core.theories import theory_record
from neva_tl.selection.contrast import design, effects

#: Without k a selector keeps all neurons that pass, up to this share of the model (or `_SMALL`, if that is more).
MAX_SHARE = 1 / 30
_SMALL = 64
#: Power of the test at the effect sizes that a selection reports as detectable.
POWER = 0.8


class SelectionWarning(UserWarning):
    """A selection is empty or short, or a probe that it uses did not converge."""


@dataclass(frozen=True)
class Request:
    """The request to a selector.

    Attributes:
        value: One of the values of the statistics.
        k: Number of neurons to keep; None keeps all that pass, at most `default_k`.
        model: The model, for selectors that read weights.
        alpha: False discovery rate of the screen.
        delta: Smallest effect of interest in standard deviations: the screen tests |g| > delta.
        lam: Weight of specificity, `|g_t| - lam * max(0, max_j sign(g_t) g_j)`; 0 ranks by |g| alone.
        require_split_half: Keep only neurons whose effect has one sign in both halves of the folds.
        require_q: Keep only neurons with q <= alpha.
        layers: Layers to select from; None is all. The family of the tests is the neurons of these layers.
        site: `post` or `gate`.
        seed: Seed of every random draw.
        options: The selector's own options.
        k_requested: Whether the caller named k. A default k only limits the set, so that fewer neurons are not worth a warning.
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
    k_requested: bool = True

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


@check_arguments
def default_k(n_neurons: int) -> int:
    """Maximum number of neurons when no k is given.

    A thirtieth of the model (1,536 of SmolLM2's 46,080), at least 64.

    Args:
        n_neurons: Number of neurons of the model.
    """
    return min(n_neurons, max(_SMALL, int(n_neurons * MAX_SHARE)))


def family_size(stats: ActivationStats, layers: tuple[int, ...] | None) -> int:
    """Number of neurons of some layers.

    Args:
        stats: The statistics.
        layers: The layers; None is all.
    """
    return (stats.n_layers if layers is None else len(set(layers))) * stats.d_mlp


def limit_of(stats: ActivationStats, request: Request) -> int:
    """Maximum number of neurons that a request keeps.

    Args:
        stats: The statistics.
        request: The request.
    """
    return default_k(family_size(stats, request.layers)) if request.k is None else request.k


def check_k(k: int | None, total: int, where: str = "the model has") -> None:
    """Check a number of neurons.

    Args:
        k: The number; None takes the selector's own.
        total: Number of neurons to select from.
        where: Subject and verb of the message.

    Raises:
        InputError: k is below 1 or above the number of neurons.
    """
    if k is not None and not 1 <= k <= total:
        raise InputError(f"k = {k} is not possible: {where} {total} neurons; choose k from 1 to {total}")


def check_request(stats: ActivationStats, request: Request) -> None:
    """Raise an error for a request that the statistics cannot answer.

    Args:
        stats: The statistics.
        request: The request.

    Raises:
        InputError: The value was not collected, k is below 1 or above the number of neurons, the model lacks a layer, alpha,
            delta or lam is out of range, or the model is not the one that the statistics were collected on.
    """
    stats.index(request.value)
    for layer in request.layers or ():
        if not 0 <= layer < stats.n_layers:
            where = "the model has" if stats.n_layers == stats.model_layers else "these statistics hold"
            raise InputError(f"layer {layer} does not exist: {where} layers 0 to {stats.n_layers - 1}")
    if request.layers is not None and not request.layers:
        raise InputError("no layers to select from: name at least one, or leave layers out for all")
    total = family_size(stats, request.layers)
    check_k(
        request.k, total, "the model has" if request.layers is None else f"layers {sorted(set(request.layers))} have"
    )
    if not 0 < request.alpha < 1:
        raise InputError(f"alpha = {request.alpha} is not between 0 and 1")
    if request.delta < 0 or request.lam < 0:
        raise InputError(f"delta and lam must not be negative: got delta = {request.delta}, lam = {request.lam}")
    if request.model is not None and stats.fingerprint:
        from neva_tl.models import fingerprint, fingerprint_difference, note_old

        if difference := fingerprint_difference(stats.fingerprint, fingerprint(request.model)):
            raise InputError(
                f"these statistics were collected on another model ({difference}): collect again on this one"
            )
        note_old(stats.fingerprint, "the file of statistics")


def need_model(request: Request, why: str) -> Any:
    """The request's model.

    Args:
        request: The request.
        why: Start of the error message: the part of the library that needs the model.

    Raises:
        InputError: The request has no model.
    """
    if request.model is None:
        raise InputError(f"{why} reads the model's weights: pass model=... to select")
    return request.model


def neurons_of(stats: ActivationStats, layers: tuple[int, ...] | None) -> Int[np.ndarray, " n"]:
    """Flat numbers (layer * d_mlp + neuron) of the neurons of some layers, ascending.

    Args:
        stats: The statistics.
        layers: The layers; None is all.
    """
    first = np.arange(stats.n_layers) if layers is None else np.unique(layers)
    return (first[:, None] * stats.d_mlp + np.arange(stats.d_mlp)).ravel()


def best_first(score: Float[np.ndarray, " n"], most: int | None = None) -> Int[np.ndarray, " m"]:
    """Indices of the highest scores, best first; equal scores keep their order.

    Args:
        score: The scores.
        most: Maximum number of indices; None returns all.
    """
    candidates = np.arange(len(score))
    if most is not None and most < len(score):
        least = np.partition(score, len(score) - most)[len(score) - most]
        candidates = np.flatnonzero(score >= least)
    return candidates[np.argsort(-score[candidates], kind="stable")][:most]


def finish(
    stats: ActivationStats, request: Request, method: str, ranked: pd.DataFrame, counts: dict[str, int]
) -> NeuronSet:
    """Keep the best k candidates as a NeuronSet.

    Warns when there are none, or fewer than the caller requested.

    Args:
        stats: The statistics.
        request: The request.
        method: The selector's name.
        ranked: Candidates, best first, with a `score` column.
        counts: Step -> number of neurons that remain after it, in order.
    """
    tested = family_size(stats, request.layers)
    selected = ranked.head(limit_of(stats, request)).reset_index(drop=True)
    selected.insert(2, "rank", np.arange(1, len(selected) + 1))
    sample = design(stats, request.value, request.site)
    settings = {
        **request.settings(),
        **sample,
        "power": _power(request, sample, tested),
        "counts": {"neurons": tested, **counts, "selected": len(selected)},
        **theory_record(stats.theory, [request.value]),
    }
    if not len(selected):
        g = effects(stats, request.value, request.site)[0].g.ravel()[neurons_of(stats, request.layers)]
        warnings.warn(_nothing_left(request, settings, float(np.abs(g).max()), tested), SelectionWarning, stacklevel=4)
    elif request.k is not None and request.k_requested and len(selected) < request.k:
        warnings.warn(
            f"{request.value}: {len(selected)} neurons pass, fewer than the k = {request.k} requested ({_steps(settings)})",
            SelectionWarning,
            stacklevel=4,
        )
    return NeuronSet(
        value=request.value,
        method=method,
        df=selected,
        n_layers=stats.model_layers,
        d_mlp=stats.d_mlp,
        site=request.site,
        fingerprint=stats.fingerprint,
        settings=settings,
    )


def _steps(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in settings["counts"].items())


def _size(sample: Mapping[str, Any]) -> tuple[bool, str, int]:
    """Whether the design is paired, and the name and number of its observations.

    Unpaired, the number is that of the smaller pole.
    """
    if sample["design"] == "paired":
        return True, "pairs", int(sample["n_pairs"])
    return False, "texts per pole", int(min(sample["n_plus"], sample["n_minus"]))


def _power(request: Request, sample: Mapping[str, Any], tested: int) -> dict[str, Any]:
    """Effects that the screen's test detects with 80 % power.

    For one neuron alone, and for each of all neurons (alpha / number).

    Benjamini and Hochberg's threshold lies between the two; the more neurons carry the value, the closer it is to the first.
    """
    paired, unit, have = _size(sample)
    levels = {"alone": request.alpha, "all": request.alpha / max(tested, 1)}
    detectable = {
        name: detectable_g(have, power=POWER, alpha=alpha, delta=request.delta, paired=paired)
        if alpha < POWER
        else None
        for name, alpha in levels.items()
    }
    return {"power": POWER, "n": have, "unit": unit, "neurons": tested, "detectable_g": detectable}


def _nothing_left(request: Request, settings: Mapping[str, Any], largest: float, tested: int) -> str:
    """The warning of an empty selection.

    It gives the number of pairs at which the largest effect would be detectable.
    """
    paired, unit, have = _size(settings)
    start = f"no neuron is left for {request.value} ({_steps(settings)}); "
    if largest <= request.delta:
        return start + (
            f"the largest |g| of {have} {unit} is {largest:.2f}, within delta = {request.delta}: more {unit} would not "
            "help, stronger contrasts or a smaller delta might"
        )
    needed = pairs_needed(largest, alpha=request.alpha / tested, delta=request.delta, paired=paired)
    alone = pairs_needed(largest, alpha=request.alpha, delta=request.delta, paired=paired)
    return start + (
        f"with {have} {unit} the largest |g| is {largest:.2f}; an effect of that size needs about {needed} {unit} for "
        f"80 % power against |g| <= {request.delta} when all {tested} neurons are tested ({alone} for one alone)"
    )
