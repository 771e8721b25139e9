"""Figures by name, for results that draw themselves."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def figure(name: str) -> Callable[..., Any]:
    """Look up a drawing function of `neva_tl.plots`.

    `core` is below `plots`: its results name their figure, and matplotlib is imported when the figure is drawn.

    Args:
        name: A name exported by `neva_tl.plots`.

    Example:
        >>> from neva_tl.core.figures import figure
        >>> figure("layer_profile").__name__
        'layer_profile'
    """
    draw: Callable[..., Any] = getattr(importlib.import_module("neva_tl.plots"), name)
    return draw
