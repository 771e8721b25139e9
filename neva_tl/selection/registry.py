"""Selectors by name, and `select`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from neva_tl.activations import ActivationStats
from neva_tl.attribution.margin import MarginEffects
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet, Site
from neva_tl.selection.activation_probability import select_activation_probability
from neva_tl.selection.base import Request, check_request
from neva_tl.selection.causal import select_causal
from neva_tl.selection.effect_size import select_by_effect_size
from neva_tl.selection.lape import select_lape
from neva_tl.selection.margin import select_margin
from neva_tl.selection.mean_shift import select_mean_shift
from neva_tl.selection.neva import select_neva
from neva_tl.selection.probe import select_probe
from neva_tl.selection.random_neurons import select_random
from neva_tl.selection.shuffled import select_shuffled

#: name -> `(stats, request, **options) -> NeuronSet`
SELECTORS: dict[str, Callable[..., NeuronSet]] = {
    "effect_size": select_by_effect_size,
    "neva": select_neva,
    "probe": select_probe,
    "causal": select_causal,
    "margin": select_margin,
    "random": select_random,
    "label_shuffled": select_shuffled,
    "activation_probability": select_activation_probability,
    "lape": select_lape,
    "mean_shift": select_mean_shift,
}

#: Selectors that read single prompts: they need statistics collected with samples.
NEEDS_SAMPLES = ("probe", "margin", "label_shuffled")


def select(
    stats: ActivationStats,
    value: str,
    *,
    method: str = "effect_size",
    k: int | None = None,
    model: Any = None,
    alpha: float = 0.05,
    delta: float = 0.2,
    lam: float = 1.0,
    require_split_half: bool = True,
    require_q: bool = True,
    layers: Iterable[int] | None = None,
    site: Site = "post",
    seed: int = 0,
    **options: Any,
) -> NeuronSet:
    """Choose the neurons that carry a value.

    Args:
        stats: activation statistics (`neva_tl.collect`), of the training split.
        value: one of Schwartz's ten, among those collected.
        method: a name in `SELECTORS`.
        k: neurons to keep; None keeps all that pass, at most a thirtieth of the model (64 if that is more).
        model: the model, where the method reads weights (`neva`, `causal`, `margin`, `random`).
        alpha, delta, lam, require_split_half, require_q, layers, site, seed: see `Request`.
        options: the method's own options (see its function).

    Returns:
        The neurons, best first; empty, with a warning that says how many pairs would be needed, when none passes.

    Raises:
        InputError: unknown method, option or value, a value that was not collected, k larger than the model,
            activations that are not finite, or statistics of another model.
    """
    chosen = None if layers is None else tuple(int(layer) for layer in layers)
    request = Request(value, k, model, alpha, delta, lam, require_split_half, require_q, chosen, site, seed, options)
    check_request(stats, request)
    return run(stats, request, method)


def run(stats: ActivationStats, request: Request, method: str) -> NeuronSet:
    """Run one selector on a checked request.

    Raises:
        InputError: the method or one of its options is unknown.
    """
    known = options_of(method)
    for name in request.options:
        if name not in known:
            raise InputError(f"method {method} has no option {name!r}: it knows {', '.join(known)}")
    return SELECTORS[method](stats, _described(request), **request.options)


def options_of(method: str) -> tuple[str, ...]:
    """Names of a selector's own options.

    Raises:
        InputError: there is no such selector.
    """
    if method not in SELECTORS:
        raise InputError(f"unknown selection method {method!r}: choose from {', '.join(SELECTORS)}")
    parameters = inspect.signature(SELECTORS[method]).parameters.items()
    return tuple(name for name, p in parameters if p.kind is p.KEYWORD_ONLY)


def quick(method: str) -> dict[str, Any]:
    """Options that leave out what re-selections (placebos, resamples) have no use for: the sign flips behind `p_fwe`."""
    return {"flips": 0} if "flips" in options_of(method) else {}


def _described(request: Request) -> Request:
    """The request with its options as plain data: they go into the neuron set's settings.

    Effects measured beforehand stay out: a placebo that selects alike has to measure its own.
    """
    plain = {
        name: f"{option.method}, {len(option)} neurons" if isinstance(option, NeuronSet) else option
        for name, option in request.options.items()
        if not isinstance(option, MarginEffects)
    }
    return replace(request, options=plain)
