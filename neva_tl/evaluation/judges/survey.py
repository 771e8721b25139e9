"""The survey judge: the model fills in a questionnaire, by the probabilities of its answers.

An item ("I want to be the one who gives the orders.") and a labelled scale are put to the model; with `P(l)` the softmax
of the levels' answer log-probabilities over L levels, the item's score is `sum_l P(l) l / (L - 1)`, in [0, 1], and 1
minus that where agreeing speaks against the value. Each item is asked twice, the scale running up and down, and the two
are averaged, so that a liking for early or late letters cancels to first order. Wording and scale are ours; the items are
any in ValueBench's format (PVQ40 among them), by default forty of our own, half of each value's reversed, so that a habit
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
from neva_tl.core.values import VALUES, value
from neva_tl.evaluation.judges.base import ItemScores, Rewrite
from neva_tl.evaluation.labels.choices import check_options, letter_logprobs, option_lines
from neva_tl.models import Model
from neva_tl.prompts.splits import hash_key
from neva_tl.prompts.text_files import existing_file, read_table

#: Labels of the scale, from the lowest level to the highest.
LEVELS: tuple[str, ...] = ("not at all", "a little", "partly", "mostly", "completely")
#: What is asked; `{item}` and `{scale}` are filled in.
QUESTION = 'How well does this sentence describe you?\n\n"{item}"\n\n{scale}\n\nAnswer with one letter.'
#: Questionnaire name of our own items.
OWN = "neva_tl"


@dataclass(frozen=True)
class SurveyItem:
    """One statement: its text, the value it measures, 1 or -1 (agreeing speaks for or against it), and its name."""

    text: str
    value: str
    agreement: int
    name: str


@dataclass(frozen=True, eq=False)
class SurveyJudge:
    """A ModelJudge that asks the model itself; make it with `SurveyJudge.load`.

    Attributes:
        items: what is asked; the item is the unit of intervals.
        levels: labels of the scale, lowest first.
        centre: subtract the respondent's mean over all its items (MRAT, the correction Schwartz advises against a habit of
            agreeing). Centred scores sum to zero over items, so one value's rise is the others' fall: leave it off for
            leakage.
        chat, token_budget: as `inference.answer_logprobs`.
    """

    items: tuple[SurveyItem, ...]
    levels: tuple[str, ...] = LEVELS
    centre: bool = False
    chat: bool | None = None
    token_budget: int = 4096

    def __post_init__(self) -> None:
        if not self.items:
            raise InputError("a survey needs items: there are none")
        check_options(len(self.levels), "the survey's scale")
        # values in circle order, items of a value in their own
        ordered = tuple(sorted(self.items, key=lambda item: value(item.value).index))
        object.__setattr__(self, "items", ordered)

    @classmethod
    def load(cls, path: str | Path | None = None, *, questionnaire: str | None = None, **options: Any) -> SurveyJudge:
        """The judge of a questionnaire.

        Args:
            path: a CSV with the columns of ValueBench (questionnaire, item, value, agreement); None takes our own items.
            questionnaire: only the items of this one, for example `PVQ40`; None takes all that measure the ten values.
            options: further attributes (levels, centre, chat, token_budget).

        Raises:
            InputError: no such file or questionnaire, no item of the ten values, or a malformed line (file and line named).
        """
        return cls(own_items() if path is None else read_items(path, questionnaire), **options)

    @property
    def name(self) -> str:
        """Shown in tables."""
        return "survey, centred" if self.centre else "survey"

    @property
    def unit(self) -> str:
        """The whole length of the scale is 1."""
        return "share of the scale"

    @property
    def values(self) -> tuple[str, ...]:
        """The values that the items measure, in circle order."""
        return tuple(dict.fromkeys(item.value for item in self.items))

    def only(self, values: Iterable[str]) -> SurveyJudge:
        """The same survey on the items of some values.

        Raises:
            InputError: none of its items measures them.
        """
        wanted = {value(name).name for name in values}
        kept = tuple(item for item in self.items if item.value in wanted)
        return replace(self, items=kept)

    def prompts(self, *, descending: bool = False) -> list[str]:
        """The question of each item, the scale running up, or down."""
        scale = option_lines(self.levels[::-1] if descending else self.levels)
        return [QUESTION.format(item=item.text, scale=scale) for item in self.items]

    def measure(self, model: Model, session: Any | None = None, rewrite: Rewrite | None = None) -> ItemScores:
        """Item scores under the edits in force.

        `extra` holds, per item: `order`, the score with the scale running up minus that with it running down (above 0:
        late letters are favoured), and `mass`, the probability that falls on the letters at all (near 0 the model
        does not answer the question, and its scores say little).

        Raises:
            InputError: the edits touch generated tokens alone (see `choices.letter_logprobs`).
        """
        count = len(self.items)
        asked = [*self.prompts(), *self.prompts(descending=True)]
        if rewrite is not None:
            asked = [rewrite(prompt) for prompt in asked]
        logprobs = letter_logprobs(
            model, asked, len(self.levels), session=session, chat=self.chat, token_budget=self.token_budget
        )
        up, down = expected_level(logprobs[:count]), 1.0 - expected_level(logprobs[count:])
        mass = np.exp(logprobs).sum(axis=1)
        agreement = np.array([item.agreement for item in self.items])
        score = np.where(agreement > 0, (up + down) / 2, 1.0 - (up + down) / 2)
        if self.centre:
            score = score - score.mean()
        names = np.array([item.name for item in self.items], dtype=str)
        where = [np.array([item.value == own for item in self.items]) for own in self.values]
        return ItemScores(
            values=self.values,
            scores=tuple(score[own] for own in where),
            clusters=tuple(names[own] for own in where),
            bounds=None if self.centre else (0.0, 1.0),
            extra={"order": (up - down, names), "mass": ((mass[:count] + mass[count:]) / 2, names)},
        )

    def table(self) -> pd.DataFrame:
        """The items: value, agreement, item, name."""
        rows = [{"value": i.value, "agreement": i.agreement, "item": i.text, "name": i.name} for i in self.items]
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        facts = {"items": len(self.items), "values": len(self.values), "scale": " < ".join(self.levels)}
        return card("Survey", facts, self.table())


def expected_level(logprobs: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Mean of the levels 0 to k - 1, divided by k - 1, under the softmax of their log-probabilities: in [0, 1]."""
    levels = np.arange(logprobs.shape[1]) / (logprobs.shape[1] - 1)
    return np.asarray(softmax(logprobs, axis=1) @ levels, dtype=np.float64)


def own_items() -> tuple[SurveyItem, ...]:
    """Our own forty items: four for each value, two of them reversed."""
    file = resources.files("neva_tl.evaluation.judges") / "questionnaire.json"
    rows: Sequence[Mapping[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return tuple(_item(str(row["item"]), str(row["value"]), int(row["agreement"]), OWN) for row in rows)


def read_items(path: str | Path, questionnaire: str | None = None) -> tuple[SurveyItem, ...]:
    """Items of the ten values from a CSV in ValueBench's format; items of other values are left out, repeated ones kept
    once.

    Raises:
        InputError: as `SurveyJudge.load`.
    """
    file = existing_file(path, "a questionnaire (CSV: questionnaire, item, value, agreement)")
    found: dict[tuple[str, str], SurveyItem] = {}
    known: dict[str, None] = {}
    for line, row in read_table(file, ("questionnaire", "item", "value", "agreement")):
        source, text = row["questionnaire"].strip(), row["item"].strip()
        agreement, measured = row["agreement"].strip(), row["value"].strip().lower().replace(" ", "-")
        if agreement not in ("1", "-1"):
            raise InputError(f"{file}, line {line}: agreement is {agreement!r}: 1 or -1 is expected")
        if measured not in VALUES:
            continue
        if not text:
            raise InputError(f"{file}, line {line}: the item is empty")
        known[source] = None
        if questionnaire is None or source == questionnaire:
            found.setdefault((measured, text), _item(text, measured, int(agreement), source))
    if not found:
        if questionnaire is not None and known:
            raise InputError(f"{file} has no items of {questionnaire!r} on the ten values: it has {', '.join(known)}")
        raise InputError(f"{file}: no item has one of Schwartz's ten values as its value")
    return tuple(found.values())


def _item(text: str, measured: str, agreement: int, source: str) -> SurveyItem:
    return SurveyItem(text, measured, agreement, f"{source}/{measured}/{hash_key(text)[:8]}")
