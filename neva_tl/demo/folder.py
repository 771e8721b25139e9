"""Folders of demo models: whether one is, and which world it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.demo.lexicon import BORDER_RATE, BORDER_RATE_VARIABLE, FROZEN_BORDER_RATE
from neva_tl.demo.tokens import token_ids


def _read(path: Path, folder: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise InputError(
            f"{folder} is no demo model: it has no readable {path.name} (`neva-tl train-demo --out FOLDER` writes one)"
        )
    return found


def folder_rate(folder: Path) -> float:
    """The border rate of the world that a demo model was trained on, by its card.

    Raises:
        InputError: no demo model: no such folder, no card, no weights, or another vocabulary.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give one that `neva-tl train-demo --out FOLDER` wrote")
    card = _read(folder / "card.json", folder)
    text = _read(folder / "tokenizer.json", folder)
    if not (folder / "model.safetensors").is_file():
        raise InputError(f"{folder} is no demo model: it has no model.safetensors")
    if (text.get("model") or {}).get("vocab") != token_ids():
        raise InputError(f"{folder} is no demo model: its vocabulary is not the demo world's")
    # models trained before worlds could differ have no rate in their card
    rate = card.get("border_rate", FROZEN_BORDER_RATE)
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise InputError(f"{folder / 'card.json'} has a border rate that is no number: {rate!r}")
    return float(rate)


def check_world(folder: Path) -> None:
    """Refuse a demo model of another world than the process's: its judge and prompts would be wrong.

    Raises:
        InputError: no demo model, or one trained on another world; says which variable to set.
    """
    rate = folder_rate(folder)
    if rate == BORDER_RATE:
        return
    how = f"unset {BORDER_RATE_VARIABLE}" if rate == FROZEN_BORDER_RATE else f"set {BORDER_RATE_VARIABLE}={rate:g}"
    raise InputError(
        f"the demo model in {folder} was trained on a world with border rate {rate:g}, this process has {BORDER_RATE:g}: "
        f"{how} before starting it"
    )


def start_folder(start: str | Path) -> Path:
    """The folder that training goes on from: `shipped`, or a demo model of any world.

    Raises:
        InputError: no demo model.
    """
    from neva_tl.demo import path

    folder = path() if str(start) == "shipped" else Path(start).expanduser()
    folder_rate(folder)
    return folder
