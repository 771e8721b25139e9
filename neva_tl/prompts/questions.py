"""Questions, open prompts and word lists of a prompt set.

All sets except `demo` are in natural English and share the questions, prompts and words of `schwartz`.
"""

from __future__ import annotations

import importlib
import json
from importlib import resources
from typing import Any

import pandas as pd

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ, THEORIES, TheorySpec, ValueName, find_theory
from neva_tl.prompts import moral_foundations, schwartz, wordlists
from neva_tl.prompts.splits import SPLITS, by_rank

#: Kinds of open questions. In a dilemma two goods exclude each other, so that an answer has to put one of them first.
KINDS = ("everyday", "advice", "plan", "opinion", "dilemma")


@check_arguments
def load_questions(spec: str = "schwartz") -> pd.DataFrame:
    """Return dilemmas between two values: columns `value`, `against`, `text`, `topic`, `split`, and more.

    `against` is null when the other option expresses no value.

    Args:
        spec: See `prompts.load`; all but "demo" give the natural-English questions.

    Example:
        >>> questions = nv.prompts.load_questions("demo")
        >>> questions[["value", "against", "text"]].iloc[0].tolist()
        ['self-direction', 'stimulation', 'tina can spend the day on designing a curious poem or chasing a stormy cliff :']
    """
    return _demo_table("dilemma_prompts") if spec == "demo" else schwartz.load_questions()


@check_arguments
def open_prompts(spec: str = "schwartz", split: str | None = None) -> pd.DataFrame:
    """Return the fixed prompts of the leakage matrix, which name no value: columns `text`, `topic`, `split`.

    Args:
        spec: See `prompts.load`; all but "demo" and "moral-foundations" give the prompts written for Schwartz's values.
        split: Name of a split; None returns all.

    Raises:
        InputError: Unknown split.

    Example:
        >>> nv.prompts.open_prompts("demo", "test")["text"].iloc[0]
        'at the square , george often repeats that'
    """
    if split is not None and split not in SPLITS:
        raise InputError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    if spec == "demo":
        table = _demo_table("open_prompts")
    else:
        table = (moral_foundations if spec == moral_foundations.SOURCE else schwartz).open_prompts()
    return table if split is None else table[table["split"] == split].reset_index(drop=True)


@check_arguments
def open_questions(split: str | None = None) -> pd.DataFrame:
    """Return the questions that a model answers to write contrasts: columns `text`, `topic`, `kind`, `split`.

    They are ours and name no value of a built-in theory. No question is among `open_prompts`: those measure what an edit does
    to the text, and texts that select neurons must not measure them.

    Args:
        split: Name of a split (by hash rank of the topic, 50/20/30); None returns all.

    Raises:
        InputError: Unknown split.

    Example:
        >>> len(nv.prompts.open_questions()), sorted(set(nv.prompts.open_questions("test")["kind"]))
        (131, ['advice', 'dilemma', 'everyday', 'opinion', 'plan'])
    """
    if split is not None and split not in SPLITS:
        raise InputError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    file = resources.files("neva_tl.prompts") / "data" / "open_questions.json"
    table = pd.DataFrame(json.loads(file.read_text(encoding="utf-8"))["questions"])
    table["split"] = table["topic"].map(by_rank(table["topic"].tolist()))
    table = table[["text", "topic", "kind", "split"]]
    return table if split is None else table[table["split"] == split].reset_index(drop=True)


@check_arguments
def words(
    value: ValueName, half: str | None = None, spec: str = "schwartz", *, theory: TheorySpec | None = None
) -> tuple[str, ...]:
    """Return the words of a value.

    Args:
        value: Name of the value.
        half: `"A"` (attribution, selection, circuits), `"B"` (judging), or None for all words.
        spec: See `prompts.load`; all but "demo" give the natural-English words.
        theory: Theory with word lists; None takes the built-in one that has the value, Schwartz's first.

    Returns:
        The words; empty if the theory has no list for the value.

    Raises:
        InputError: The theory lacks the value, or a half other than A and B.

    Example:
        >>> nv.prompts.words("power")[:3]
        ('power', 'powerful', 'powers')
        >>> nv.prompts.words("power", half="A", spec="demo")[:3]
        ('army', 'bank', 'buy')
    """
    if spec == "demo":
        return tuple(_demo().words(value, half))
    implied = next((one for one in THEORIES.values() if value in one), SCHWARTZ)
    resolved = implied if theory is None else find_theory(theory)
    listed = resolved.value(value).words
    return wordlists.take(schwartz.word_list(value) if resolved == SCHWARTZ else listed, half)


def _demo() -> Any:
    # a lazy import: the demo world is a layer above prompts
    return importlib.import_module("neva_tl.demo")


def _demo_table(function: str) -> pd.DataFrame:
    """Return the demo's prompts of all splits as one table."""
    return pd.concat([getattr(_demo(), function)(split) for split in SPLITS], ignore_index=True)
