"""Open questions, open prompts and word lists by the name of a prompt set: the demo world's, or natural English.

Every set but `demo` is in natural English, so that they share the questions, prompts and words of `schwartz`.
"""

from __future__ import annotations

import importlib
from typing import Any

import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.prompts import schwartz, wordlists
from neva_tl.prompts.splits import SPLITS


def load_questions(spec: str = "schwartz") -> pd.DataFrame:
    """Dilemmas that set a value against another: columns `value`, `against`, `text`, `topic`, `split`, and more.

    `against` is null where the other option stands for nothing.

    Args:
        spec: as for `prompts.load`; all but "demo" give the natural-English questions.
    """
    return _demo_table("dilemma_prompts") if spec == "demo" else schwartz.load_questions()


def open_prompts(spec: str = "schwartz", split: str | None = None) -> pd.DataFrame:
    """The fixed prompts that name no value, behind the leakage matrix: columns `text`, `topic`, `split`.

    Args:
        spec: as for `prompts.load`; all but "demo" give the natural-English prompts.
        split: one split only.

    Raises:
        InputError: no such split.
    """
    if split is not None and split not in SPLITS:
        raise InputError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    table = _demo_table("open_prompts") if spec == "demo" else schwartz.open_prompts()
    return table if split is None else table[table["split"] == split].reset_index(drop=True)


def words(value: str, half: str | None = None, spec: str = "schwartz") -> tuple[str, ...]:
    """The words of a value: half A (attribution, selection, circuits), half B (judging), or all.

    Raises:
        InputError: a value unknown to the theory, or a half other than A and B.
    """
    if spec == "demo":
        found: tuple[str, ...] = tuple(_demo().words(value, half))
        return found
    return wordlists.take(schwartz.word_list(value), half)


def _demo() -> Any:
    # Imported late: the demo world is above prompts in the package.
    return importlib.import_module("neva_tl.demo")


def _demo_table(function: str) -> pd.DataFrame:
    """The demo's prompts of all splits as one table."""
    return pd.concat([getattr(_demo(), function)(split) for split in SPLITS], ignore_index=True)
