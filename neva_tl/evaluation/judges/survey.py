"""The survey judge: questionnaire scores from answer probabilities.

The prompt is an item ("I want to be the one who gives the orders.") with a labelled scale. With `P(l)` the softmax of the
levels' answer log-probabilities over L levels, the item's score is `sum_l P(l) l / (L - 1)`, in [0, 1], and 1 minus that for
items where agreement speaks against the value. Each item appears twice, with the scale ascending and descending, and its score
is the average, so a preference for early or late letters cancels to first order. Wording and scale are ours. The items may be
any in ValueBench's format (PVQ40 among them); the default is forty of our own, half of each value's reversed, so that a habit
of agreeing raises no value.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import softmax

from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.theories.schwartz import SCHWARTZ, value
from neva_tl.evaluation.judges.base import ItemScores, Rewrite
from neva_tl.evaluation.judges.card import judge_card, judge_line
from neva_tl.evaluation.labels.choices import check_options, letter_logprobs, option_lines
from neva_tl.models import Model
from neva_tl.models.inference.session import TokenSession
from neva_tl.prompts.splits import hash_key
from neva_tl.prompts.text_files import dropped, existing_file, joined_notes, read_table

#: Labels of the scale, from the lowest level to the highest.
LEVELS: tuple[str, ...] = ("not at all", "a little", "partly", "mostly", "completely")
#: Template of the question, with the fields `{item}` and `{scale}`.
QUESTION = 'How well does this sentence describe you?\n\n"{item}"\n\n{scale}\n\nAnswer with one letter.'
#: Questionnaire name of neva_tl's items.
OWN = "neva_tl"


@dataclass(frozen=True)
class SurveyItem:
    """One statement of a questionnaire.

    Attributes:
        text: The statement.
        value: The value that it measures.
        agreement: 1 where agreement speaks for the value, -1 where it speaks against it.
        name: Unique name.
    """

    text: str
    value: str
    agreement: int
    name: str


@dataclass(frozen=True, eq=False)
class SurveyJudge:
    """A ModelJudge with a questionnaire; create it with `SurveyJudge.load`.

    Attributes:
        items: The items of the questionnaire, the units of intervals.
        levels: Labels of the scale, lowest first.
        centre: Subtract the respondent's mean over all items (MRAT, the correction that Schwartz advises against a habit of
            agreeing). Centred scores sum to zero over items, so a rise of one value lowers the others: do not use it for
            leakage.
        chat: See `inference.answer_logprobs`.
        token_budget: See `inference.answer_logprobs`.
        note: Items that the reader left out, and why; empty for none.

    Example:
        >>> judge = nv.evaluation.SurveyJudge.load().only(["power", "benevolence"])
        >>> judge.values
        ('power', 'benevolence')
        >>> len(judge.prompts()) == len(judge.items)
        True
    """

    items: tuple[SurveyItem, ...]
    levels: tuple[str, ...] = LEVELS
    centre: bool = False
    chat: bool | None = None
    token_budget: int = 4096
    note: str = ""

    _reads = "the model's answers to a questionnaire, by the probabilities of its option letters"
    __repr__ = judge_line

    def _facts(self) -> dict[str, Any]:
        return {"items": len(self.items), "scale": " < ".join(self.levels)}

    def __post_init__(self) -> None:
        if not self.items:
            raise InputError("a survey needs items: there are none")
        check_options(len(self.levels), "the survey's scale")
        # values in circle order; the items of a value keep their order
        ordered = tuple(sorted(self.items, key=lambda item: SCHWARTZ.index(item.value)))
        object.__setattr__(self, "items", ordered)

    @classmethod
    def load(cls, path: str | Path | None = None, *, questionnaire: str | None = None, **options: Any) -> SurveyJudge:
        """Create the judge of a questionnaire.

        Args:
            path: A CSV file with the columns of ValueBench (questionnaire, item, value, agreement). None uses neva_tl's items.
            questionnaire: Name of the questionnaire in the file, for example `PVQ40`. None uses all items of the ten values.
            **options: Further attributes (levels, centre, chat, token_budget).

        Raises:
            InputError: The file or the questionnaire does not exist, no item measures one of the ten values, or a line is
                malformed (the message names file and line).
        """
        if path is None:
            return cls(own_items(), **options)
        items, note = _read_items(path, questionnaire)
        return cls(items, note=note, **options)

    @property
    def name(self) -> str:
        """Name in tables."""
        return "survey, centred" if self.centre else "survey"

    @property
    def unit(self) -> str:
        """The length of the scale is 1."""
        return "share of the scale"

    @property
    def values(self) -> tuple[str, ...]:
        """Values that the items measure, in circle order."""
        return tuple(dict.fromkeys(item.value for item in self.items))

    def only(self, values: Iterable[str]) -> SurveyJudge:
        """Return the survey with only the items of some values.

        Args:
            values: Names of the values.

        Raises:
            InputError: None of the items measures these values.
        """
        targets = {value(name).name for name in values}
        return replace(self, items=tuple(item for item in self.items if item.value in targets))

    def prompts(self, *, descending: bool = False) -> list[str]:
        """Format the question of each item.

        Args:
            descending: List the scale from the highest level to the lowest.
        """
        scale = option_lines(self.levels[::-1] if descending else self.levels)
        return [QUESTION.format(item=item.text, scale=scale) for item in self.items]

    def measure(self, model: Model, session: TokenSession | None = None, rewrite: Rewrite | None = None) -> ItemScores:
        """Compute item scores under the active edits.

        `extra` contains, per item: `order`, the score with the ascending scale minus the score with the descending one (above 0:
        the model prefers late letters), and `mass`, the total probability of the letters (near 0 the model does not answer the
        question, and its scores mean little).

        Args:
            model: A TransformerLens model.
            session: The active edit session; None for the unedited model.
            rewrite: Function that changes the prompts (role prompts).

        Raises:
            InputError: The edits touch only generated tokens (see `choices.letter_logprobs`).
        """
        count = len(self.items)
        questions = [*self.prompts(), *self.prompts(descending=True)]
        if rewrite is not None:
            questions = [rewrite(prompt) for prompt in questions]
        logprobs = letter_logprobs(
            model, questions, len(self.levels), session=session, chat=self.chat, token_budget=self.token_budget
        )
        up, down = expected_level(logprobs[:count]), 1.0 - expected_level(logprobs[count:])
        total = np.exp(logprobs).sum(axis=1)
        agreement = np.array([item.agreement for item in self.items])
        score = np.where(agreement > 0, (up + down) / 2, 1.0 - (up + down) / 2)
        if self.centre:
            score = score - score.mean()
        names = np.array([item.name for item in self.items], dtype=str)
        masks = [np.array([item.value == target for item in self.items]) for target in self.values]
        return ItemScores(
            values=self.values,
            scores=tuple(score[mask] for mask in masks),
            clusters=tuple(names[mask] for mask in masks),
            bounds=None if self.centre else (0.0, 1.0),
            extra={"order": (up - down, names), "mass": ((total[:count] + total[count:]) / 2, names)},
        )

    def table(self) -> pd.DataFrame:
        """Return the items: value, agreement, item, name."""
        rows = [{"value": i.value, "agreement": i.agreement, "item": i.text, "name": i.name} for i in self.items]
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        return judge_card(self) + card("Items", table=self.table())


def expected_level(logprobs: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Compute the expected level, scaled to [0, 1].

    The mean of the levels 0 to k - 1 under the softmax of their log-probabilities, divided by k - 1.

    Args:
        logprobs: Log-probability of each level.
    """
    levels = np.arange(logprobs.shape[1]) / (logprobs.shape[1] - 1)
    return np.asarray(softmax(logprobs, axis=1) @ levels, dtype=np.float64)


def own_items() -> tuple[SurveyItem, ...]:
    """Return neva_tl's forty items: four for each value, two of them reversed."""
    file = resources.files("neva_tl.evaluation.judges") / "questionnaire.json"
    rows: Sequence[Mapping[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return tuple(_item(str(row["item"]), str(row["value"]), int(row["agreement"]), OWN) for row in rows)


def read_items(path: str | Path, questionnaire: str | None = None) -> tuple[SurveyItem, ...]:
    """Read the items of the ten values from a CSV file in ValueBench's format.

    Items of other values are left out, and a repeated item counts once.

    Args:
        path: The file.
        questionnaire: Name of the questionnaire to read. None reads all.

    Raises:
        InputError: See `SurveyJudge.load`.
    """
    return _read_items(path, questionnaire)[0]


def _read_items(path: str | Path, questionnaire: str | None) -> tuple[tuple[SurveyItem, ...], str]:
    """Return the items, and the note about those that are left out."""
    file = existing_file(path, "a questionnaire (CSV: questionnaire, item, value, agreement)")
    items: dict[tuple[str, str], SurveyItem] = {}
    sources: dict[str, None] = {}
    others, total = 0, 0
    for line, row in read_table(file, ("questionnaire", "item", "value", "agreement")):
        source, text = row["questionnaire"].strip(), row["item"].strip()
        agreement, measured = row["agreement"].strip(), row["value"].strip().lower().replace(" ", "-")
        if agreement not in ("1", "-1"):
            raise InputError(f"{file}, line {line}: agreement is {agreement!r}: 1 or -1 is expected")
        total += questionnaire is None or source == questionnaire
        if measured not in SCHWARTZ:
            others += questionnaire is None or source == questionnaire
            continue
        if not text:
            raise InputError(f"{file}, line {line}: the item is empty")
        sources[source] = None
        if questionnaire is None or source == questionnaire:
            items.setdefault((measured, text), _item(text, measured, int(agreement), source))
    if not items:
        if questionnaire is not None and sources:
            raise InputError(f"{file} has no items of {questionnaire!r} on the ten values: it has {', '.join(sources)}")
        raise InputError(f"{file}: no item has one of Schwartz's ten values as its value")
    note = joined_notes(
        dropped(others, total, "items", "their values are not among Schwartz's ten"),
        dropped(total - others - len(items), total, "items", "repeated ones"),
    )
    return tuple(items.values()), note


def _item(text: str, measured: str, agreement: int, source: str) -> SurveyItem:
    return SurveyItem(text, measured, agreement, f"{source}/{measured}/{hash_key(text)[:8]}")
