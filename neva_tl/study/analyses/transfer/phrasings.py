"""The same items under another system prompt than the one that an edit was selected with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.evaluation.judges.items import Items
from neva_tl.evaluation.judges.logprob import LogProbJudge
from neva_tl.prompts import ContrastSet
from neva_tl.prompts.contrast import SYSTEM
from neva_tl.study.own_words.sampling import Conversation
from neva_tl.study.run.scorers import Scorer

#: Neutral system prompts, of ours; None leaves the system's turn to the chat template.
PHRASINGS: tuple[str | None, ...] = (
    None,
    "You are a helpful assistant.",
    "Answer the user's question in your own words.",
)


def systems_of(pairs: ContrastSet) -> frozenset[str | None]:
    """Return the distinct system prompts of a set; None means rows without one.

    Args:
        pairs: The contrast set.
    """
    if SYSTEM not in pairs.df.columns:
        return frozenset({None})
    return frozenset(None if pd.isna(system) else str(system) for system in pairs.df[SYSTEM])


def other_phrasings(pairs: ContrastSet, phrasings: int) -> tuple[str | None, ...]:
    """Return the system prompts of `PHRASINGS` that a set does not have.

    Args:
        pairs: The contrast set.
        phrasings: Number of phrasings with the set's own, at most.
    """
    existing = systems_of(pairs)
    return tuple(system for system in PHRASINGS if system not in existing)[: phrasings - 1]


def check_phrasings(model: models.Model, phrasings: int) -> None:
    """Check that a model has a system prompt that can be phrased otherwise.

    Args:
        model: The loaded model.
        phrasings: Number of phrasings.

    Raises:
        InputError: There is more than one, and the model has no chat template, or one without a system's turn.
    """
    if phrasings == 1:
        return
    name = models.info(model).name
    if not models.info(model).chat:
        raise InputError(f"{name} has no chat template, so that no other system prompt can be scored: use phrasings 1")
    if not Conversation.of(model).system:
        raise InputError(f"the chat template of {name} takes no system prompt: use phrasings 1")


def with_system(pairs: ContrastSet, system: str | None) -> ContrastSet:
    """Return the same pairs with one system prompt in the column `system`.

    Args:
        pairs: The contrast set.
        system: The system prompt; None drops the column.
    """
    if system is None:
        return replace(pairs, df=pairs.df.drop(columns=SYSTEM, errors="ignore"))
    return replace(pairs, df=pairs.df.assign(**{SYSTEM: system}))


def phrased(judge: LogProbJudge, system: str | None) -> LogProbJudge:
    """Return a judge of the same items under another system prompt, in the same unit.

    Args:
        judge: The judge.
        system: The system prompt of all items; None leaves it to the chat template.
    """
    neutral = None if judge.neutral is None else _turned(judge.neutral, system)
    return replace(
        judge, pairs=with_system(judge.pairs, system), items=_turned(judge.items, system), neutral=neutral, prefix=None
    )


def _turned(items: Items, system: str | None) -> Items:
    """Replace the system's turn of all examples."""
    first = () if system is None else ((SYSTEM, system),)
    examples = tuple(
        replace(example, turns=(*first, *(turn for turn in example.turns if turn[0] != SYSTEM)))
        for example in items.examples
    )
    return replace(items, examples=examples)


def phrased_scorer(scorer: Scorer, system: str | None) -> Scorer:
    """Return a scorer whose log-probability judges read items under another system prompt.

    Args:
        scorer: The scorer of the source.
        system: See `phrased`.
    """

    def judge(split: str, values: Sequence[str]) -> LogProbJudge:
        source_judge = scorer.judge_of(split, values)
        assert isinstance(source_judge, LogProbJudge)
        other = phrased(source_judge, system)
        return other if source_judge.prefix is None else other.with_prefix(scorer.model)

    return Scorer(scorer.model, judge, scorer.prompts, scorer.decoding, scorer.values)
