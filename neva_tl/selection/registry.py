"""Registry of selectors; the table itself is in `selectors`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from neva_tl.activations import ActivationStats
from neva_tl.attribution.margin import MarginEffects
from neva_tl.core.errors import InputError
from neva_tl.core.names import as_name
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.selection.base import Request


@dataclass(frozen=True)
class Selector:
    """Everything that the package knows about a selector.

    Attributes:
        select: Function `(stats, request, **options) -> NeuronSet`; its keyword-only parameters are the selector's options.
        needs_samples: Whether it reads single prompts, so that statistics must be collected with samples.
        placebo: Whether its neurons carry nothing by construction; a placebo cannot be matched to it or resampled.
        needs_model: Whether it reads the model's weights or runs the model.
        needs_texts: Whether it runs the collected texts again (`ActivationStats.training_texts`).
        quick: Options for re-selections (placebos, resamples) that leave out costly columns which those do not read, such as
            the sign flips for `p_fwe`.
    """

    select: Callable[..., NeuronSet]
    needs_samples: bool = False
    placebo: bool = False
    needs_model: bool = False
    needs_texts: bool = False
    quick: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the selector's own options."""
        parameters = inspect.signature(self.select).parameters.items()
        return tuple(name for name, parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


#: name -> record; `selection.selectors` fills it.
SELECTORS: dict[str, Selector] = {}


def register(name: str, selector: Selector) -> None:
    """Add or replace a selector; `select` and every study then know it.

    Args:
        name: As in `select(..., method=name)`.
        selector: Its record.

    Raises:
        InputError: A `quick` option is not an option of the selector.
    """
    for option in selector.quick:
        if option not in selector.options:
            raise InputError(
                f"selector {name} has no option {option!r}: it has {', '.join(selector.options) or 'none'}"
            )
    SELECTORS[name] = selector


def find_selector(name: str) -> Selector:
    """The record of a selector.

    Args:
        name: A registered name.

    Raises:
        InputError: The name is not registered.
    """
    return SELECTORS[as_name("selection method", name, SELECTORS)]


def run(stats: ActivationStats, request: Request, method: str) -> NeuronSet:
    """Run one selector on a checked request.

    Args:
        stats: Activation statistics.
        request: The checked request.
        method: Name of the selector.

    Raises:
        InputError: The selector or one of its options is unknown.
    """
    selector = find_selector(method)
    for name in request.options:
        if name not in selector.options:
            raise InputError(f"method {method} has no option {name!r}: it knows {', '.join(selector.options)}")
    return selector.select(stats, _plain(request), **request.options)


def options_of(method: str) -> tuple[str, ...]:
    """Names of a selector's own options.

    Args:
        method: Name of the selector.

    Raises:
        InputError: The selector is unknown.
    """
    return find_selector(method).options


def quick(method: str) -> dict[str, Any]:
    """Options of a selector for re-selections (see `Selector.quick`).

    Args:
        method: Name of the selector.

    Raises:
        InputError: The selector is unknown.
    """
    return dict(find_selector(method).quick)


def _plain(request: Request) -> Request:
    """The request with plain data as options, for the neuron set's settings.

    Margin effects that were measured beforehand are dropped: a placebo that repeats the selection measures its own.
    """
    options = {
        name: f"{option.method}, {len(option)} neurons" if isinstance(option, NeuronSet) else option
        for name, option in request.options.items()
        if not isinstance(option, MarginEffects)
    }
    return replace(request, options=options)
