"""The answers of a model under roles, with scores, figures and the pairs that remain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from neva_tl.core.cards import card
from neva_tl.core.errors import WorkError
from neva_tl.core.formatting import plain_interval
from neva_tl.core.theories import ValueTheory
from neva_tl.prompts import ContrastSet
from neva_tl.prompts.splits import SPLITS
from neva_tl.study.own_words.contrast import pair_rows, single_rows

#: Questions with a pair that each split needs. With fewer than eight in training, flipping signs by question cannot give a
#: two-sided p below .01 (2 / 2^8 = .008); the others are the shares of 50/20/30 to that.
NEEDED: Mapping[str, int] = {"train": 8, "validation": 3, "test": 4}


@dataclass(frozen=True, eq=False, repr=False)
class OwnWords:
    """Answers in a model's own words and the judge's filter.

    Attributes:
        answers: One row per answer: `value, topic, kind, split, question, pole, sample, role, answer, score, valid, kept`.
        figures: One row per value: `value`; `auroc, lo, hi` (between the roles' answers before the filter, 95 %, questions
            resampled) on `questions` of the `requested` questions; `answers`, `invalid` and `unscored` ones; `train`,
            `validation`, `test` (questions with a pair; of an unpaired set: questions that keep an answer, of the pole
            with fewer); `pairs`; `separated` (whether the interval lies above .5);
            `sufficient` (whether every split has the questions it needs); `advice` (what would help; "" without need).
        theory: Theory of the values.
        system: System's turn with which the answers are read; None for the chat template's own.
        name: Name of the set.
        provenance: Model, judge, settings and roles as plain data.
        paired: Whether `pairs` pairs the answers by question.

    Example:
        >>> from neva_tl.models.tiny import tiny_checkpoint
        >>> chat = nv.load(tiny_checkpoint("tiny", chat=True, n_ctx=512))
        >>> lengths = lambda texts: [float(len(text)) for text in texts]
        >>> own = nv.study.own_words.write(chat, "thrift", judge=lengths, questions=24, max_new_tokens=4)
        >>> own.theory.names, sorted(set(own.answers["pole"])), len(own.answers)
        (('thrift',), ['+', '-'], 96)
    """

    answers: pd.DataFrame
    figures: pd.DataFrame
    theory: ValueTheory
    system: str | None
    name: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    paired: bool = True

    @property
    def note(self) -> str:
        """The advice on values with too little contrast, in one line; "" where all have enough."""
        return " ".join(f"{advice}." for advice in self.figures["advice"] if advice)

    @property
    def pairs(self) -> ContrastSet:
        """The pairs (or single answers) of the values with enough questions in every split.

        Raises:
            WorkError: No value has enough; the message says what would help.
        """
        sufficient = self.figures.loc[self.figures["sufficient"], "value"].tolist()
        if not sufficient:
            raise WorkError(self.note.rstrip("."))
        rows = self.answers[self.answers["kept"] & self.answers["value"].isin(sufficient)]
        arrange = pair_rows if self.paired else single_rows
        return ContrastSet(
            pd.DataFrame(arrange(rows, self.system)),
            self.name,
            self.note,
            theory=self.theory,
            provenance=self.provenance,
        )

    def __repr__(self) -> str:
        rows = self.figures.to_dict("records")
        facts = "; ".join(
            f"{row['value']} AUROC {plain_interval(row['auroc'], row['lo'], row['hi'])}, {row['pairs']} pairs"
            for row in rows
        )
        return f"OwnWords({self.name}: {len(self.answers)} answers; {facts})"

    def _repr_html_(self) -> str:
        facts = {"answers": len(self.answers), "kept": int(self.answers["kept"].sum()), "system": self.system}
        return card(self.name, facts, self.figures, note=self.note, rows=25)

    def show(self) -> Any:
        """Draw the AUROC between the roles' answers of each value, with intervals (matplotlib)."""
        from neva_tl.plots import interval_plot

        table = self.figures.rename(columns={"value": "label", "auroc": "est"})[["label", "est", "lo", "hi"]]
        return interval_plot(table, title=f"{self.name}: roles' answers told apart", axis="AUROC")


def advice_of(
    value: str,
    figures: Mapping[str, Any],
    judge: str,
    samples: int,
    *,
    defined: bool,
    opposed: bool,
    most: int,
    paired: bool = True,
) -> str:
    """Name the shortage and its remedies; "" where the answers differ and every split has enough questions.

    Args:
        value: The value.
        figures: Its row of `OwnWords.figures`.
        judge: Name of the judge.
        samples: Answers per question and role.
        defined: Whether the value has a definition.
        opposed: Whether an opposite was named.
        most: Number of questions that exist.
        paired: Whether the answers are paired by question.
    """
    if figures["separated"] and figures["sufficient"]:
        return ""
    problems = []
    if not figures["separated"]:
        estimate = plain_interval(figures["auroc"], figures["lo"], figures["hi"])
        problems.append(f"the judge {judge} cannot tell the roles' answers apart (AUROC {estimate})")
    if not figures["sufficient"]:
        counts = ", ".join(f"{figures[split]} of {split} (needed: {NEEDED[split]})" for split in SPLITS)
        kept = "a pair" if paired else "an answer of each role"
        problems.append(f"too few questions keep {kept}: {counts}")
    helpful = [f"more answers a role (now {samples})"]
    if figures["requested"] < most:
        helpful.append(f"more questions (now {figures['requested']} of {most})")
    if not defined:
        helpful.append("a written definition")
    if not opposed:
        helpful.append("an opposite")
    helpful += ["a larger model", "another judge"]
    return f"{value}: {'; '.join(problems)}; {', '.join(helpful[:-1])} or {helpful[-1]} may help"
