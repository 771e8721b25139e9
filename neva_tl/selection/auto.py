"""Method `auto`: the study's selector with the study's settings, for the model of some statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neva_tl.activations import ActivationStats
from neva_tl.core.auto import auto_of
from neva_tl.core.errors import InputError
from neva_tl.selection.base import family_size
from neva_tl.selection.registry import find_selector


@dataclass(frozen=True)
class Decision:
    """A selector with the arguments of `select` that the caller left open.

    Attributes:
        method: Name of the selector.
        k: Largest number of neurons; None is the selector's own rule.
        options: Arguments of `select`.
    """

    method: str
    k: int | None
    options: Mapping[str, Any]


def decide(stats: ActivationStats, layers: tuple[int, ...] | None = None) -> Decision:
    """Return the study's selection for the model of some statistics.

    Args:
        stats: The statistics.
        layers: Layers to select from, whose number of neurons limits k; None is all.
    """
    auto = auto_of(stats.demo)
    settings = auto.settings(auto.selector)
    k = None if settings.k is None else min(settings.k, max(1, family_size(stats, layers)))
    return Decision(auto.selector, k, settings.options)


def check_evidence(stats: ActivationStats, method: str, model: Any) -> None:
    """Check that the selector that `auto` stands for can run.

    Args:
        stats: The statistics.
        method: Name of the selector.
        model: The model; None where neither the caller nor the statistics have it.

    Raises:
        InputError: The model or the texts are missing; the message says what to pass.
    """
    selector = find_selector(method)
    other = "or name a selector that reads statistics alone (method='effect_size')"
    if selector.needs_model and model is None:
        raise InputError(f"method 'auto' is {method} for this model, which reads the model: pass model=..., {other}")
    if selector.needs_texts and stats.training_texts is None:
        raise InputError(
            f"method 'auto' is {method} for this model, which runs the training texts again: pass stats.with_texts(pairs), "
            f"{other}"
        )
