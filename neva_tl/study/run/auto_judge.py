"""The user's own judge of texts in place of `auto`: `NEVA_JUDGE`.

The headline of an instruct model is its text, judged; but the user knows which judge a machine can run, so that no model is
loaded as a judge that nobody named.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from neva_tl import models
from neva_tl.core.auto import AUTO
from neva_tl.core.errors import InputError
from neva_tl.core.files import read_json
from neva_tl.core.messages import say
from neva_tl.evaluation.judges.registry import JUDGES, known_judges
from neva_tl.models.short_names import SHORT_NAMES, converted_folder, is_short_name
from neva_tl.models.sources import is_demo, label

#: Environment variable with the judge in place of `auto`, for example `llm:qwen2.5-coder-1.5b#oppose=no`.
VARIABLE = "NEVA_JUDGE"


def configured_judge() -> str:
    """Return the judge of texts that the user configured; `auto` without one.

    Raises:
        InputError: `NEVA_JUDGE` does not name a judge of texts of any language.
    """
    judge = os.environ.get(VARIABLE, "").strip()
    if judge and (judge.partition(":")[0] not in JUDGES or judge == "exact"):
        raise InputError(f"{VARIABLE}={judge} is not a judge of texts: choose {known_judges()}")
    return judge or AUTO


def judge_for(name: str, loaded: Any = None) -> str:
    """Return the configured judge for an instruct model; `auto` for others, and without one.

    An instruct model is one with a chat template, as its local folder or the loaded model has it: nothing is loaded or asked of
    a hub to find out.

    Args:
        name: Name of the model.
        loaded: The loaded model, where there is one.

    Raises:
        InputError: See `configured_judge`.
    """
    judge = configured_judge()
    if judge == AUTO or is_demo(name):
        return AUTO
    if models.info(loaded).chat if loaded is not None else _has_chat_template(name):
        return judge
    say(
        f"{VARIABLE} is left aside: no chat template of {label(name)} is known here (--judge names a judge for any model)"
    )
    return AUTO


def _has_chat_template(name: str) -> bool:
    folder = converted_folder(SHORT_NAMES[name]) if is_short_name(name) else Path(name).expanduser()
    if folder is None or not folder.is_dir():
        return False
    settings = folder / "tokenizer_config.json"
    in_settings = settings.is_file() and bool(read_json(settings, "a tokenizer's settings").get("chat_template"))
    return in_settings or (folder / "chat_template.jinja").is_file()
