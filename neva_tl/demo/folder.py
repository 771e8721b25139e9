"""Folders of demo models: their validation, and the world that a model was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.demo.lexicon import BORDER_RATE, BORDER_RATE_VARIABLE, FROZEN_BORDER_RATE
from neva_tl.demo.tokens import token_ids


def _read(path: Path, folder: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise InputError(
            f"{folder} is not a demo model: it has no readable {path.name} (`neva-tl train-demo --out FOLDER` writes one)"
        )
    return content


def folder_rate(folder: Path) -> float:
    """Return the border rate of a demo model's world, from its card.

    Args:
        folder: Folder of a demo model.

    Raises:
        InputError: The folder is missing, has no card or weights, or has another vocabulary.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give one that `neva-tl train-demo --out FOLDER` wrote")
    card = _read(folder / "card.json", folder)
    text = _read(folder / "tokenizer.json", folder)
    if not (folder / "model.safetensors").is_file():
        raise InputError(f"{folder} is not a demo model: it has no model.safetensors")
    if (text.get("model") or {}).get("vocab") != token_ids():
        raise InputError(f"{folder} is not a demo model: its vocabulary is not the demo world's")
    # cards of models trained before the border rate became variable lack it
    rate = card.get("border_rate", FROZEN_BORDER_RATE)
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise InputError(f"{folder / 'card.json'} has a border rate that is not a number: {rate!r}")
    return float(rate)


def check_world(folder: Path) -> None:
    """Check that a demo model belongs to the process's world, whose judge and prompts apply.

    Args:
        folder: Folder of a demo model.

    Raises:
        InputError: The folder is not a demo model, or its world differs; names the variable to set.

    Example:
        >>> nv.demo.check_world(nv.demo.path())  # the shipped model belongs to the frozen world
    """
    rate = folder_rate(folder)
    if rate == BORDER_RATE:
        return
    remedy = f"unset {BORDER_RATE_VARIABLE}" if rate == FROZEN_BORDER_RATE else f"set {BORDER_RATE_VARIABLE}={rate:g}"
    raise InputError(
        f"the demo model in {folder} was trained on a world with border rate {rate:g}, this process has {BORDER_RATE:g}: "
        f"{remedy} before starting it"
    )


def start_folder(start: str | Path) -> Path:
    """Return the folder of the model whose weights training starts from.

    Args:
        start: `shipped`, or the folder of a demo model of any world.

    Raises:
        InputError: The folder is not a demo model.
    """
    from neva_tl.demo import path

    folder = path() if str(start) == "shipped" else Path(start).expanduser()
    folder_rate(folder)
    return folder
