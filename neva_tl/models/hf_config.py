"""What the config of a transformers model says, whatever the architecture."""

from __future__ import annotations

from typing import Any


def text_config(config: Any) -> Any:
    """Return the part of a config that describes the language model; the config itself where it has one part.

    Args:
        config: Config of a transformers model, or None.
    """
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def residual_factor(config: Any) -> float:
    """Return the factor by which blocks multiply what attention and MLP write (Granite); 1 on most architectures.

    Args:
        config: Config of a transformers model, or None.
    """
    return float(getattr(text_config(config), "residual_multiplier", None) or 1.0)
