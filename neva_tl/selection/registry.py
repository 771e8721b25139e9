"""Registry of selectors: look one up, run it, ask for its options. The table itself is in `selectors`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from neva_tl.activations import ActivationStats
from neva_tl.attribution.margin import MarginEffects
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.selection.base import Request

#: name -> `(stats, request, **options) -> NeuronSet`; `selection.selectors` fills it.
SELECTORS: dict[str, Callable[..., NeuronSet]] = {}

#: Selectors that read single prompts: they need statistics collected with samples.
NEEDS_SAMPLES = ("probe", "margin", "label_shuffled")


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
