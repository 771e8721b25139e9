"""The demo model and its world: a generator of simple English, an exact judge, and a small model trained on it.

Words, frames, texts and weights are ours (MIT). World and recipe are frozen: `frozen.json` contains their hashes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neva_tl.core.errors import WorkError
from neva_tl.demo.folder import check_world
from neva_tl.demo.frozen import frozen
from neva_tl.demo.lexicon import BORDER_RATE, FROZEN_BORDER_RATE, words
from neva_tl.demo.posterior import Posterior, posterior, posteriors
from neva_tl.demo.sets import (
    contrast_rows,
    dilemma_prompts,
    expressing_prompts,
    neutral_questions,
    neutral_texts,
    open_prompts,
    value_beginnings,
)
from neva_tl.demo.world import Text, corpus, vocabulary

__all__ = [
    "BORDER_RATE",
    "FROZEN_BORDER_RATE",
    "WORLD_HASH",
    "Posterior",
    "Text",
    "check_world",
    "contrast_rows",
    "corpus",
    "dilemma_prompts",
    "expressing_prompts",
    "neutral_questions",
    "neutral_texts",
    "open_prompts",
    "path",
    "posterior",
    "posteriors",
    "train",
    "value_beginnings",
    "vocabulary",
    "words",
]

#: sha256 of the frozen world.
WORLD_HASH: str = frozen()["world"]


def path() -> Path:
    """Return the folder of the shipped model (Hugging Face format).

    Raises:
        WorkError: The installed package lacks the model.

    Example:
        >>> nv.demo.path().name
        'model'
    """
    folder = Path(__file__).with_name("model")
    if not (folder / "model.safetensors").exists():
        raise WorkError(
            f"the demo model is not in {folder}: run `neva-tl train-demo --out {folder}` or reinstall neva_tl"
        )
    return folder


def train(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Train a demo model; imports torch only when called.

    Args:
        *args: See `neva_tl.demo.training.train`.
        **kwargs: See `neva_tl.demo.training.train`.

    Example:
        >>> facts = nv.demo.train("small", steps=100)  # doctest: +SKIP
    """
    from neva_tl.demo.training import train as run

    return run(*args, **kwargs)
