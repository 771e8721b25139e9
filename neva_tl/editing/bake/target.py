"""Target: a class of transformers that can hold a model with its edit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from neva_tl.core.brief import brief


@dataclass(frozen=True, eq=False)
class Target:
    """A class of transformers that holds the model with the edit, and its config.

    Attributes:
        kind: The class.
        config: Its config.
        note: How the checkpoint differs from the model's own format, for its README; empty where it does not.
        inserted: Layers after which a further layer adds the step; empty where biases hold it.
    """

    kind: Any
    config: Any
    note: str = ""
    inserted: tuple[int, ...] = ()

    __repr__ = brief


def empty_model(kind: Any, config: Any) -> nn.Module:
    """A model without storage.

    Args:
        kind: Class of transformers.
        config: Its config.
    """
    with torch.device("meta"):
        model: nn.Module = kind(config)
    return model
