"""Two-option dilemmas, the second measure of leakage: each question sets one value against another.

Value j is measured on the questions that offer j as either option. D[i, j] (j != i) omits the questions that also offer
the steered value i, since j falls there by construction as i rises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ, theory_of
from neva_tl.evaluation.judges.base import ItemScores, Rewrite
from neva_tl.evaluation.judges.card import judge_card, judge_line
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.models import Model, inference
from neva_tl.prompts.example import Example

ANSWERS = ("Yes.", "No.")


def offers(questions: pd.DataFrame, name: str) -> Bool[np.ndarray, " n"]:
    """Return True for the questions that offer a value, as `value` or as `against`.

    Args:
        questions: Columns `value`, `against`.
        name: Name of the value.
    """
    return ((questions["value"] == name) | (questions["against"] == name)).to_numpy(dtype=bool)


def balance(questions: pd.DataFrame) -> pd.DataFrame:
    """Count the questions per value (row) and opponent (column); means over opponents need balanced counts.

    Args:
        questions: Columns `value`, `against`.
    """
    names = _values(questions)
    return pd.crosstab(questions["value"], questions["against"]).reindex(index=names, columns=names, fill_value=0)


def _values(questions: pd.DataFrame) -> tuple[str, ...]:
    """Return the values of the theory that the questions imply, in its order."""
    present = [*questions["value"].dropna().unique(), *questions["against"].dropna().unique()]
    return theory_of(present).names if present else SCHWARTZ.names


@check_arguments
def on_dilemmas(
    method: str,
    questions: pd.DataFrame,
    base: pd.DataFrame,
    edited: Mapping[str, pd.DataFrame],
    *,
    judge: str = "",
    unit: str = "",
) -> Responses:
    """Build responses on dilemmas from texts scored by a judge (see `text_responses`).

    Args:
        method: Name of the method.
        questions: Columns `value, against, text, topic`; one row per row of `base`.
        base: Unedited texts with columns `score_VALUE`, one per question.
        edited: The same for each steered value.
        judge: Name of the judge.
        unit: Unit of its scores.

    Raises:
        InputError: The number of texts differs from the number of questions.

    Example:
        >>> from neva_tl.evaluation import on_dilemmas, text_responses
        >>> questions = nv.prompts.load_questions("demo").query("split == 'test'").head(12)
        >>> base, edited = (text_responses(model, edits, questions, judge) for edits in (None, edit))
        >>> responses = on_dilemmas("shift", questions, base, {"benevolence": edited}, judge=judge.name, unit=judge.unit)
        >>> responses.steered
        ('benevolence',)
    """
    if any(len(frame) != len(questions) for frame in (base, *edited.values())):
        raise InputError("dilemmas need one text per question in every condition (samples=1)")
    values = _values(questions)
    offered = [offers(questions, name) for name in values]
    measured = tuple(name for name, mask in zip(values, offered, strict=True) if mask.any())
    masks = [mask for mask in offered if mask.any()]
    responses = Responses(
        method=method,
        steered=tuple(edited),
        base=tuple(base[f"score_{name}"].to_numpy(float)[mask] for name, mask in zip(measured, masks, strict=True)),
        edited=tuple(
            np.stack([frame[f"score_{name}"].to_numpy(float)[mask] for frame in edited.values()])
            for name, mask in zip(measured, masks, strict=True)
        ),
        clusters=tuple(questions["topic"].to_numpy(str)[mask] for mask in masks),
        values=measured,
        judge=judge,
        unit=unit,
    )
    return without_opponents(responses, questions)


@check_arguments
def without_opponents(responses: Responses, questions: pd.DataFrame) -> Responses:
    """Exclude the questions that offer i from D[i, j] for every j other than i.

    Args:
        responses: Scores of a `YesNoJudge` on the questions (see `assemble`).
        questions: Columns `value`, `against`.

    Example:
        >>> from neva_tl.evaluation import YesNoJudge, assemble, observe, without_opponents
        >>> duels = [("power", "security"), ("security", "tradition"), ("tradition", "power")]
        >>> questions = pd.DataFrame(duels, columns=["value", "against"])
        >>> questions = questions.assign(text=[f"Should he choose {a} over {b}?" for a, b in duels], topic=list("abc"))
        >>> base, edited = (observe(model, edits, None, YesNoJudge(questions)).items for edits in (None, edit))
        >>> responses = assemble("shift", base, {"power": edited})
        >>> without_opponents(responses, questions).values
        ('power', 'security', 'tradition')
    """
    excluded = tuple(
        np.stack([offers(questions, i)[offers(questions, j)] & (i != j) for i in responses.steered])
        for j in responses.values
    )
    return replace(responses, excluded=excluded)


@dataclass(frozen=True, eq=False)
class YesNoJudge:
    """ModelJudge of yes-no dilemmas ("Should X do A rather than B?").

    P(yes), relative to yes and no, is the score of A's value, and P(no) that of B's value. Since both sides count, a
    general shift towards yes does not appear as a rise of every value. Apply `without_opponents` to the responses before
    `measure`.

    Attributes:
        questions: Columns `value, against, text, topic`, and optionally `first` ("value" or "against"), the option that
            yes chooses; default "value".
        chat: Force or forbid the chat template; None uses it where the tokenizer has one.

    Example:
        >>> questions = nv.prompts.load_questions("demo").query("split == 'test'").head(4)
        >>> judge = nv.evaluation.YesNoJudge(questions)
        >>> items = judge.measure(model)  # log-odds of "yes"
        >>> judge.name
        'dilemma'
    """

    questions: pd.DataFrame
    chat: bool | None = None

    _reads = "the model's own log-probabilities of yes and no; no text is generated"
    __repr__, _repr_html_ = judge_line, judge_card

    def _facts(self) -> dict[str, Any]:
        offered = [name for name in _values(self.questions) if offers(self.questions, name).any()]
        return {"questions": len(self.questions), "values": f"{len(offered)} ({', '.join(offered)})"}

    @property
    def name(self) -> str:
        """Name of the judge in tables."""
        return "dilemma"

    @property
    def unit(self) -> str:
        """Unit of the scores: probability relative to the two answers."""
        return "P(chooses)"

    def measure(
        self, model: Model, session: inference.TokenSession | None = None, rewrite: Rewrite | None = None
    ) -> ItemScores:
        """Score the questions that offer each value, in the order of the questions.

        Args:
            model: A TransformerLens model.
            session: Session of the active edits; None for the unedited model.
            rewrite: Puts a role prompt before each question; None leaves the questions unchanged.
        """
        prompts = [rewrite(text) if rewrite else text for text in self.questions["text"].astype(str)]
        yes = self._logprob(model, prompts, ANSWERS[0], session) - self._logprob(model, prompts, ANSWERS[1], session)
        p_yes = 1.0 / (1.0 + np.exp(-yes))
        rows = [(name, offers(self.questions, name)) for name in _values(self.questions)]
        rows = [(name, mask) for name, mask in rows if mask.any()]
        topics = self.questions["topic"].to_numpy(dtype=str)
        first_option = self._first_option().to_numpy()
        first = [first_option == name for name, _ in rows]
        scores = [np.where(side, p_yes, 1.0 - p_yes)[mask] for side, (_, mask) in zip(first, rows, strict=True)]
        return ItemScores(
            tuple(name for name, _ in rows), tuple(scores), tuple(topics[mask] for _, mask in rows), bounds=(0.0, 1.0)
        )

    def _first_option(self) -> pd.Series:
        """Return the value of each question's first option, which yes chooses (column `first`)."""
        if "first" not in self.questions.columns:
            return self.questions["value"]
        return self.questions["value"].where(self.questions["first"] != "against", self.questions["against"])

    def _logprob(
        self, model: Model, prompts: Sequence[str], answer: str, session: inference.TokenSession | None
    ) -> Float[np.ndarray, " n"]:
        examples = [Example(prompt, answer) for prompt in prompts]
        return np.asarray(inference.answer_logprobs(model, examples, session=session, chat=self.chat)[0], dtype=float)
