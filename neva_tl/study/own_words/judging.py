"""Scores of the answers: by a judge of texts, by its name, or by a function from texts to numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from neva_tl.core.errors import InputError
from neva_tl.evaluation.judges import TextJudge, legible, load_judge
from neva_tl.evaluation.judges.base import check_scores, judge_values
from neva_tl.evaluation.judges.llm import LlmJudge
from neva_tl.evaluation.judges.registry import JUDGES, known_judges
from neva_tl.prompts import words
from neva_tl.study.own_words.concept import Concepts
from neva_tl.study.run.auto_judge import VARIABLE, configured_judge

#: A judge of texts, its name, or a function that returns one number per text (higher: expresses the concept more).
Scorer = TextJudge | str | Callable[[Sequence[str]], Any]

#: Judges whose question names each value with its definition.
ASKING = ("chat", "llm")


def find_scorer(judge: Scorer, concepts: Concepts) -> TextJudge | Callable[[Sequence[str]], Any]:
    """Return the judge of a name; other judges pass through.

    Args:
        judge: The judge. `auto` is the judge of the environment variable NEVA_JUDGE; where it is not set, the word-list judge,
            if every value has words in the judging half of its list.
        concepts: The values to score.

    Raises:
        InputError: The judge is unknown, reads no texts or does not score a value, a function is given for several values, or
            `auto` finds no judge.
    """
    reader: Any = judge
    if isinstance(judge, str):
        judge = configured_judge() if judge == "auto" else judge
        if judge == "auto":
            _check_auto(concepts)
        judge = "wordlist" if judge == "auto" else judge
        # a model is asked about these values alone, and not for opposition (see `score_answers`): each question costs time
        reader = load_judge(judge, concepts.theory.subset(concepts.values) if _asks(judge) else concepts.theory)
        if isinstance(reader, LlmJudge):
            reader = replace(reader, opposes=False)
    if not hasattr(reader, "valid"):
        if hasattr(reader, "measure") or not callable(reader):
            raise InputError(
                f"the judge {getattr(reader, 'name', reader)!r} reads no texts: name one of {known_judges()}, or pass a function "
                "from texts to numbers"
            )
        if len(concepts.values) > 1:
            raise InputError(
                f"a function scores one concept, and there are {len(concepts.values)}: pass a judge of the theory's values"
            )
        return reader
    if absent := [name for name in concepts.values if name not in judge_values(reader)]:
        raise InputError(
            f"the judge {reader.name!r} does not score {absent[0]}: choose a judge of {concepts.theory.name}"
        )
    return reader


def _asks(name: str) -> bool:
    """Whether the judge of a name asks a model about each value."""
    return name.partition(":")[0] in ASKING


def _check_auto(concepts: Concepts) -> None:
    """Refuse the word-list judge for a theory in which a value has no words to be judged by."""
    if any(not words(name, half="B", theory=concepts.theory) for name in concepts.theory.names):
        readers = [f"{name}:{JUDGES[name][1]}" for name in ASKING if name in JUDGES]
        raise InputError(
            f"no judge knows {concepts.values[0]} by itself: name one that reads its definition ({' or '.join(readers)}; also by "
            f"{VARIABLE}), or pass a function from texts to numbers"
        )


def scorer_name(judge: TextJudge | Callable[[Sequence[str]], Any]) -> str:
    """Return the name of a judge, or of a function.

    Args:
        judge: The judge.
    """
    return str(getattr(judge, "name", None) or getattr(judge, "__name__", type(judge).__name__))


def score_answers(
    judge: TextJudge | Callable[[Sequence[str]], Any], value: str, answers: Sequence[str], questions: Sequence[str]
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Score how strongly answers express a value.

    Args:
        judge: See `find_scorer`. Where it computes opposition from the text too, the score is P(expresses) - P(opposes); a
            judge that asks a model (`chat:`, `llm:`) gives P(expresses) alone.
        value: Name of the value.
        answers: The answers.
        questions: The question of each answer, without the role, which would tell a judge that reads it what to find.

    Returns:
        The scores (NaN: the judge failed), and which answers are valid text.

    Raises:
        InputError: The judge returned scores of another shape, or something other than numbers.
    """
    reader: Any = judge  # type checkers do not narrow a union by an attribute
    if not hasattr(reader, "valid"):
        try:
            scores = np.asarray(reader(list(answers)), dtype=float)
        except (TypeError, ValueError) as error:
            raise InputError(f"the judge {scorer_name(judge)!r} returned no numbers: return one per text") from error
        if scores.shape != (len(answers),):
            raise InputError(
                f"the judge {scorer_name(judge)!r} returned shape {scores.shape}: return one number for each of the "
                f"{len(answers)} texts"
            )
        return scores, legible(answers)
    names = judge_values(reader)
    column = names.index(value)
    if hasattr(reader, "score_pairs"):  # each value that such a judge is asked about costs time
        mask = np.zeros((len(answers), len(names)), dtype=bool)
        mask[:, column] = True
        scores = np.asarray(reader.score_pairs(list(answers), list(questions), mask), dtype=float)
    else:
        scores = np.asarray(reader.score(list(answers), list(questions)), dtype=float)
    check_scores(scores, len(answers), len(names))
    # a small model says Yes to "is the writer against it?" where the value is the topic (AUROC .31 to .49 at 0.5 B)
    opposition = None if _asks(scorer_name(reader)) else reader.oppose(list(answers), list(questions))
    net = scores[:, column]
    if opposition is not None:
        check_scores(np.asarray(opposition), len(answers), len(names))
        net = net - np.asarray(opposition, dtype=float)[:, column]
    return net, np.asarray(reader.valid(list(answers), list(questions)), dtype=bool)
