"""Two-option dilemmas, the second measure of leakage: each question sets one value against another.

Value j is read on the questions that offer j, on either side; those that also offer the steered value i are left out
of D[i, j] (j != i), where j would fall because i rises by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.evaluation.judges.base import ItemScores, Rewrite
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.models import Model, inference
from neva_tl.prompts.example import Example

ANSWERS = ("Yes.", "No.")


def offers(questions: pd.DataFrame, name: str) -> Bool[np.ndarray, " n"]:
    """Which questions offer a value, as the option asked about (`value`) or as its alternative (`against`)."""
    return ((questions["value"] == name) | (questions["against"] == name)).to_numpy(dtype=bool)


def balance(questions: pd.DataFrame) -> pd.DataFrame:
    """How often each value (row) is set against each other one (column); look before trusting a mean over opponents."""
    return pd.crosstab(questions["value"], questions["against"]).reindex(index=VALUES, columns=VALUES, fill_value=0)


def on_dilemmas(
    method: str,
    questions: pd.DataFrame,
    base: pd.DataFrame,
    edited: Mapping[str, pd.DataFrame],
    *,
    judge: str = "",
    unit: str = "",
) -> Responses:
    """Responses on dilemmas from the texts a judge read (`observed.text_responses` on `questions`, one text each).

    Args:
        questions: `value, against, text, topic`, one row per row of `base`.
        base, edited: texts with `score_VALUE`, unedited and per steered value.
    """
    if any(len(frame) != len(questions) for frame in (base, *edited.values())):
        raise InputError("dilemmas need one text per question in every condition (samples=1)")
    rows = [offers(questions, name) for name in VALUES]
    measured = tuple(name for name, own in zip(VALUES, rows, strict=True) if own.any())
    kept = [own for own in rows if own.any()]
    responses = Responses(
        method=method,
        steered=tuple(edited),
        base=tuple(base[f"score_{name}"].to_numpy(float)[own] for name, own in zip(measured, kept, strict=True)),
        edited=tuple(
            np.stack([frame[f"score_{name}"].to_numpy(float)[own] for frame in edited.values()])
            for name, own in zip(measured, kept, strict=True)
        ),
        clusters=tuple(questions["topic"].to_numpy(str)[own] for own in kept),
        values=measured,
        judge=judge,
        unit=unit,
    )
    return without_opponents(responses, questions)


def without_opponents(responses: Responses, questions: pd.DataFrame) -> Responses:
    """Leave the questions that offer i out of D[i, j] for every j other than i."""
    excluded = tuple(
        np.stack([offers(questions, i)[offers(questions, j)] & (i != j) for i in responses.steered])
        for j in responses.values
    )
    return replace(responses, excluded=excluded)


@dataclass(frozen=True, eq=False)
class YesNoJudge:
    """A ModelJudge on "Should X do A rather than B?": P(yes), of yes and no, is the score of A's value; P(no) of B's.

    Counting both sides keeps a mere shift towards yes from looking like a rise of every value. Use `without_opponents`
    on the responses before measuring.

    Attributes:
        questions: `value, against, text, topic`, and `first` ("value" or "against") where the alternative may be asked
            first.
        chat: force or forbid the chat template.
    """

    questions: pd.DataFrame
    chat: bool | None = None

    @property
    def name(self) -> str:
        """Shown in tables."""
        return "dilemma"

    @property
    def unit(self) -> str:
        """A probability of the two answers alone."""
        return "P(chooses)"

    def measure(
        self, model: Model, session: inference.TokenSession | None = None, rewrite: Rewrite | None = None
    ) -> ItemScores:
        """Scores of the questions that offer each value, in the order of the questions."""
        asked = [rewrite(text) if rewrite else text for text in self.questions["text"].astype(str)]
        yes = self._logprob(model, asked, ANSWERS[0], session) - self._logprob(model, asked, ANSWERS[1], session)
        chosen = 1.0 / (1.0 + np.exp(-yes))
        rows = [(name, offers(self.questions, name)) for name in VALUES]
        rows = [(name, own) for name, own in rows if own.any()]
        topics = self.questions["topic"].to_numpy(dtype=str)
        asked_first = self._asked_first().to_numpy()
        first = [asked_first == name for name, _ in rows]
        scores = [np.where(side, chosen, 1.0 - chosen)[own] for side, (_, own) in zip(first, rows, strict=True)]
        return ItemScores(
            tuple(name for name, _ in rows), tuple(scores), tuple(topics[own] for _, own in rows), bounds=(0.0, 1.0)
        )

    def _asked_first(self) -> pd.Series:
        """The value of each question's first option, the one that yes chooses (column `first`.

        "value" or "against").
        """
        if "first" not in self.questions.columns:
            return self.questions["value"]
        return self.questions["value"].where(self.questions["first"] != "against", self.questions["against"])

    def _logprob(
        self, model: Model, asked: Sequence[str], answer: str, session: inference.TokenSession | None
    ) -> Float[np.ndarray, " n"]:
        examples = [Example(prompt, answer) for prompt in asked]
        return np.asarray(inference.answer_logprobs(model, examples, session=session, chat=self.chat)[0], dtype=float)
