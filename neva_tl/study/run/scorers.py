"""Scoring of conditions by any kind of judge, and item scores as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ, in_order
from neva_tl.editing import Edit
from neva_tl.editing.edits.rewriting import RewriteAnswer
from neva_tl.evaluation.conditions.decoding import Decoding
from neva_tl.evaluation.conditions.observe import (
    Observed,
    observe,
    observe_many,
    score_texts,
    write_texts,
    write_texts_many,
)
from neva_tl.evaluation.judges.base import ItemScores, Judge, TextJudge, judge_values, legible, reads_texts
from neva_tl.models import LayerCache, Model
from neva_tl.models.inference.prompt_cache import Prefill

#: Number of greedy texts for the invalid rate where the judge itself reads no text.
LEGIBILITY_TEXTS = 20


@dataclass(eq=False)
class Scorer:
    """A judge with its validation and test prompts.

    Attributes:
        model: The loaded model.
        judges: (split, values) -> the judge over those items (most text judges are the same for all).
        prompts: Split -> open prompts `text, topic`. The model continues them for a text judge; with other judges they serve
            the legibility check.
        decoding: Decoding of the texts, the same in every condition.
        values: Values that the judge can measure.
    """

    model: Model
    judges: Callable[[str, tuple[str, ...]], Judge]
    prompts: dict[str, pd.DataFrame]
    decoding: Decoding
    values: tuple[str, ...] = SCHWARTZ.names
    _judges: dict[tuple[str, tuple[str, ...]], Judge] = field(default_factory=dict)
    _prefill: Prefill = field(default_factory=Prefill)

    def judge_of(self, split: str, values: Sequence[str] | None = None) -> Judge:
        """Return the judge of a split, cached because of its prefix cache and unit.

        Args:
            split: `validation` or `test`.
            values: Values to measure; None for all.
        """
        key = (split, self.values if values is None else tuple(values))
        if key not in self._judges:
            self._judges[key] = self.judges(*key)
        return self._judges[key]

    @property
    def asks(self) -> bool:
        """Whether the judge asks about each value separately: a further value costs further time."""
        return not self.reads or hasattr(self.judge_of("validation", self.values[:1]), "only")

    @property
    def reads(self) -> bool:
        """Whether the judge reads texts."""
        return reads_texts(self.judge_of("validation", self.values[:1]))

    def check_edit(self, edit: Edit) -> None:
        """Refuse an edit that this judge cannot measure.

        Args:
            edit: The edit.

        Raises:
            InputError: It rewrites texts, and the judge reads none.
        """
        if isinstance(edit, RewriteAnswer) and not self.reads:
            raise InputError(
                f"it rewrites generated texts, and the judge {self.about()['judge']} reads none: choose a judge of texts"
            )

    def about(self) -> dict[str, str]:
        """Return the name and unit of the judge."""
        judge = self.judge_of("validation", self.values[:1])
        return {"judge": judge.name, "unit": judge.unit}

    def observe(
        self, edits: Sequence[Edit], split: str, values: Sequence[str] | None = None, reuse: LayerCache | None = None
    ) -> Observed:
        """Score the model under edits.

        Args:
            edits: Edits of the condition.
            split: `validation` or `test`.
            values: Values that are asked about; None for all.
            reuse: Cache of the layers below the edited one (see `editing.edit`).
        """
        judge = self.judge_of(split, values)
        return observe(self.model, tuple(edits), self.prompts[split], judge, decoding=self.decoding, reuse=reuse)

    def observe_own(self, edits: Sequence[tuple[str, Edit]], split: str) -> list[Observed]:
        """Score edits on their own value alone, where the judge asks about each value separately.

        Args:
            edits: The steered value, and the edit.
            split: `validation` or `test`.
        """
        if not self.reads:
            return [self.observe((edit,), split, (value,)) for value, edit in edits]
        judges = [self.judge_of(split, (value,)) for value, _ in edits]
        conditions = [(edit,) for _, edit in edits]
        return observe_many(self.model, conditions, self.prompts[split], judges, decoding=self.decoding)

    def observe_many(
        self, conditions: Sequence[Sequence[Edit]], split: str, values: Sequence[str] | None = None
    ) -> list[Observed]:
        """Score the model under several conditions, with texts in common batches.

        Args:
            conditions: Edits of each condition.
            split: `validation` or `test`.
            values: Values that are asked about; None for all.
        """
        if not self.reads or len(conditions) < 2:
            return [self.observe(edits, split, values) for edits in conditions]
        judge = self.judge_of(split, values)
        return observe_many(self.model, conditions, self.prompts[split], judge, decoding=self.decoding)

    def read(self, edits: Sequence[Edit], prompts: pd.DataFrame) -> Observed:
        """Score generated texts on other prompts (text judges only).

        Args:
            edits: Edits of the condition.
            prompts: Columns `text, topic`; with a column `judged_prompt` the judge reads that part of each prompt only.
        """
        return self.read_many([edits], prompts)[0]

    def read_many(self, conditions: Sequence[Sequence[Edit]], prompts: pd.DataFrame) -> list[Observed]:
        """Score texts as `read` does, for several conditions in common batches.

        Args:
            conditions: Edits of each condition.
            prompts: See `read`.
        """
        judge = self.judge_of("test")
        if "judged_prompt" not in prompts:
            return observe_many(self.model, conditions, prompts, judge, decoding=self.decoding)
        assert isinstance(judge, TextJudge)
        rows = prompts.loc[prompts.index.repeat(self.decoding.samples)]
        topics = rows["topic"].to_numpy(dtype=str)
        results, values = [], judge_values(judge)
        for texts in write_texts_many(self.model, conditions, list(rows["text"]), self.decoding):
            table = score_texts(judge, texts, list(rows["judged_prompt"]))
            score = tuple(table[f"score_{name}"].to_numpy(dtype=np.float64) for name in values)
            items = ItemScores(values, score, tuple(topics for _ in values), shared=True, bounds=(0.0, 1.0))
            results.append(Observed(items, generations=table.assign(prompt=list(rows["text"]))))
        return results

    def invalid(self, edits: Sequence[Edit], split: str, observed: Observed) -> tuple[float, int]:
        """Measure the invalid rate.

        Where the judge reads no text, `LEGIBILITY_TEXTS` greedy texts are generated on open prompts and checked for repetition.

        Args:
            edits: Edits of the condition.
            split: `validation` or `test`.
            observed: Scores of the condition.

        Returns:
            The rate, and the number of texts.
        """
        if observed.generations is not None:
            return observed.invalid, len(observed.generations)
        prompts = list(self.prompts[split]["text"][:LEGIBILITY_TEXTS])
        decoding = Decoding(max_new_tokens=24, chat=self.decoding.chat)
        return float(
            1 - legible(write_texts(self.model, tuple(edits), prompts, decoding, prefill=self._prefill)).mean()
        ), len(prompts)


def to_frame(observed: Observed) -> pd.DataFrame:
    """Convert item scores to a table.

    Args:
        observed: Scores of a condition.

    Returns:
        Columns `kind` (score, net or affirmation), `measured`, `item`, `cluster`, `score`.
    """
    parts = [("score", observed.items)] + ([("net", observed.net)] if observed.net is not None else [])
    frames = [
        pd.DataFrame({"kind": kind, "measured": name, "item": range(len(score)), "cluster": clusters, "score": score})
        for kind, items in parts
        for name, score, clusters in zip(items.values, items.scores, items.clusters, strict=True)
    ]
    for name, (score, clusters) in observed.items.extra.items():
        frames.append(
            pd.DataFrame(
                {"kind": name, "measured": name, "item": range(len(score)), "cluster": clusters, "score": score}
            )
        )
    return pd.concat(frames, ignore_index=True)


def from_frame(frame: pd.DataFrame, kind: str, *, shared: bool) -> ItemScores | None:
    """Convert a table of `to_frame` back to item scores.

    Args:
        frame: The table.
        kind: `score`, `net` or `affirmation`.
        shared: Whether all values are measured on the same items.

    Returns:
        The scores; None where the table has none of this kind.
    """
    rows = frame[frame["kind"] == kind]
    if not len(rows):
        return None
    measured = [name for name in dict.fromkeys(rows["measured"]) if name != kind]
    names = [*in_order(measured), *([kind] if kind in set(rows["measured"]) else [])]
    groups = [rows[rows["measured"] == name].sort_values("item") for name in names]
    bounds = {"score": (0.0, 1.0), "net": (-1.0, 1.0)}.get(kind) if shared else None
    return ItemScores(
        tuple(names),
        tuple(group["score"].to_numpy(dtype=np.float64) for group in groups),
        tuple(group["cluster"].to_numpy(dtype=str) for group in groups),
        shared=shared,
        bounds=bounds,
    )


def demo_expressing(value: str, n: int) -> pd.DataFrame:
    """Return demo test prompts that the unedited model continues with the value.

    Args:
        value: The expressed value.
        n: Number of prompts.

    Returns:
        Columns `text` (a sentence that expresses the value, then a lead), `judged_prompt` (the lead alone), `topic`, `split`,
        `form`.
    """
    from neva_tl import demo

    rows = demo.expressing_prompts(value, "test", n=2 * n)
    return rows[rows["form"] == "context"].reset_index(drop=True)
