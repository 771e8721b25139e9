"""The folder that `neva-tl steer --out` writes: checked before the work, by the rule of `--out`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.files import check_output_folder, read_json
from neva_tl.core.formatting import format_fact
from neva_tl.editing.saved import FILE as EDIT
from neva_tl.study.steering.result import FILE

#: Settings that a request may leave to neva_tl.
DECIDED = (None, "auto")


def check_steering_folder(folder: Path, request: Mapping[str, Any]) -> None:
    """Check that a steering can be saved in a folder: it is missing or empty, or holds the result of the same request.

    Args:
        folder: The folder.
        request: `model`, `value`, `target`, `method` and settings as they are requested; None and `auto` agree with every
            result.

    Raises:
        InputError: The folder cannot be written, or holds other files or another result.
    """
    check_output_folder(folder)
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / EDIT).is_file() or not (folder / FILE).is_file():
        raise InputError(f"{folder} is not empty and holds no steering: choose another --out, or delete the folder")
    saved = read_json(folder / FILE, "a steering that neva_tl saved")
    edit = read_json(folder / EDIT, "an edit saved by neva_tl")
    settings = saved.get("settings")
    stored = {
        "matmul": "float32",  # not stored where it is the default
        **(settings if isinstance(settings, Mapping) else {}),
        "model": edit.get("model", {}).get("name") if isinstance(edit.get("model"), Mapping) else None,
        **{name: saved.get(name) for name in ("value", "target", "method")},
    }
    for name, requested in request.items():
        if requested not in DECIDED and stored.get(name) != requested:
            what = {"prompt_hash": "pairs", "target": "gain"}.get(name, name)
            difference = (
                "other pairs"
                if what == "pairs"
                else f"{what} was {format_fact(stored.get(name))}, now {format_fact(requested)}"
            )
            raise InputError(
                f"{folder} holds another steering ({difference}): choose another --out, or delete the folder"
            )
