"""The log-probability judge: how much more likely the model finds an expressing answer than an opposing one.

For pair items of value j, `m = per-token log P(+) - log P(-)` of the answer; a score is `m / SD_j`, SD_j over unedited
validation items, frozen. Needs no generation, so it is the headline for real models. Ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from neva_tl.evaluation.judges.base import ItemScores, Rewrite
from neva_tl.evaluation.judges.items import Items, affirmation_items, pair_items
from neva_tl.models import Model
from neva_tl.models.inference.prompt_cache import PrefixCache
from neva_tl.prompts import ContrastSet, Example


@dataclass(frozen=True, eq=False)
class LogProbJudge:
    """A ModelJudge over fixed items; make it with `fit`, narrow it with `only`.

    Attributes:
        pairs: all splits; where `only` finds its items.
        items: examples of every measured value.
        sd: value -> SD_j (nats per token) of the unedited model's m on validation items, frozen.
        neutral: the affirmation pairs, None to leave that column out.
        neutral_sd: their SD on the unedited model.
        forms: forms of the pairs that count, None for all.
        chat: as `inference.encode`. token_budget: tokens per batch.
        prefix: a `PrefixCache` over the items' prompts, used while every edit touches generated tokens alone; under others
            one is made for each measurement.
    """

    pairs: ContrastSet
    items: Items
    sd: Mapping[str, float]
    neutral: Items | None = None
    neutral_sd: float = 1.0
    forms: tuple[str, ...] | None = None
    chat: bool | None = None
    token_budget: int = 4096
    prefix: PrefixCache | None = field(default=None, repr=False)

    @classmethod
    def fit(
        cls,
        model: Model,
        pairs: ContrastSet,
        *,
        split: str = "test",
        sd_split: str = "validation",
        forms: Sequence[str] | None = None,
        topics: int | None = None,
        per_value: int | None = None,
        affirmation: bool | Iterable[dict[str, str]] = True,
        chat: bool | None = None,
        token_budget: int = 4096,
    ) -> LogProbJudge:
        """Freeze the unit on the unedited model.

        Args:
            model: unedited.
            pairs: all splits.
            split: whose items are scored ("validation" while searching for doses, "test" for what is reported).
            sd_split: whose items set SD_j.
            forms, topics, per_value: restrict both splits' items (quick profiles); see `pair_items`.
            affirmation: True for neva_tl's own neutral pairs, False for none, or records (topic, prompt, affirm,
                negate).
            chat, token_budget: as `inference.answer_logprobs`.

        Raises:
            InputError: a split has too few items of a value, or they have no spread.
        """
        kept = None if forms is None else tuple(forms)
        unit_items = pair_items(pairs.split(sd_split), forms=kept, topics=topics, per_value=per_value)
        per_token = _per_token(model, unit_items.examples, chat=chat, token_budget=token_budget)
        sd = {group.name: group.sd(per_token) for group in unit_items.groups}
        neutral, neutral_sd = None, 1.0
        if affirmation is not False:
            neutral = affirmation_items(None if affirmation is True else affirmation)
            scores = _per_token(model, neutral.examples, chat=chat, token_budget=token_budget)
            neutral_sd = neutral.groups[0].sd(scores)
        items = pair_items(pairs.split(split), forms=kept, topics=topics, per_value=per_value)
        return cls(pairs, items, sd, neutral, neutral_sd, kept, chat, token_budget)

    @classmethod
    def of_unit(
        cls,
        pairs: ContrastSet,
        sd: Mapping[str, float],
        affirmation_sd: float,
        *,
        split: str = "test",
        forms: Sequence[str] | None = None,
        chat: bool | None = None,
    ) -> LogProbJudge:
        """The judge of a unit that `fit` froze before (`sd` and `neutral_sd`), without running the model."""
        kept = None if forms is None else tuple(forms)
        items = pair_items(pairs.split(split), forms=kept)
        return cls(pairs, items, dict(sd), affirmation_items(None), affirmation_sd, kept, chat)

    def only(
        self,
        *,
        split: str = "test",
        values: Sequence[str] | None = None,
        topics: int | None = None,
        per_value: int | None = None,
        affirmation: bool = True,
    ) -> LogProbJudge:
        """The same frozen unit on some of the items: a split, some values, so many topics (or pairs) a value.

        Raises:
            InputError: the split has no items of a value, or the value has no unit.
        """
        pairs = self.pairs if values is None else self.pairs.for_value(*values)
        items = pair_items(pairs.split(split), forms=self.forms, topics=topics, per_value=per_value)
        return replace(self, items=items, neutral=self.neutral if affirmation else None)

    def with_prefix(self, model: Model) -> LogProbJudge:
        """Keep the unedited prompts' keys and values, so that edits of generated tokens alone run answers only.

        Call it outside any `edit` block. Where it would not be exact (an edit that touches or reads the prompt, a rewritten
        prompt) each measurement runs every prompt once, for all of its answers.
        """
        return replace(self, prefix=PrefixCache(model, self._examples(), chat=self.chat))

    @property
    def name(self) -> str:
        """Shown in tables."""
        return "logprob"

    @property
    def unit(self) -> str:
        """m in units of its own spread over unedited items."""
        return "SD of log P(+)/P(-) per token"

    @property
    def values(self) -> tuple[str, ...]:
        """The values measured."""
        return tuple(group.name for group in self.items.groups)

    def measure(self, model: Model, session: Any | None = None, rewrite: Rewrite | None = None) -> ItemScores:
        """Item scores m / SD_j under the edits in force; `extra["affirmation"]` where neutral pairs are kept."""
        examples = self._examples()
        if rewrite is not None:
            examples = [Example(rewrite(example.prompt), example.answer) for example in examples]
        per_token = _per_token(
            model,
            examples,
            session=session,
            chat=self.chat,
            token_budget=self.token_budget,
            prefix=self._prefix_of(model, examples, session),
        )
        head = per_token[: len(self.items.examples)]
        extra = {}
        if self.neutral is not None:
            group = self.neutral.groups[0]
            extra["affirmation"] = (group.scores(per_token[len(head) :]) / self.neutral_sd, group.clusters)
        return ItemScores(
            values=self.values,
            scores=tuple(group.scores(head) / self.sd[group.name] for group in self.items.groups),
            clusters=tuple(group.clusters for group in self.items.groups),
            extra=extra,
        )

    def _prefix_of(self, model: Model, examples: Sequence[Example], session: Any | None) -> PrefixCache | None:
        if self.prefix is None or (examples == self._examples() and self.prefix.exact_for(model, session)):
            return self.prefix
        return PrefixCache(model, examples, chat=self.chat, session=session, token_budget=self.token_budget)

    def _examples(self) -> list[Example]:
        return [*self.items.examples, *(self.neutral.examples if self.neutral is not None else ())]


def _per_token(
    model: Model,
    examples: Sequence[Example],
    *,
    session: Any | None = None,
    chat: bool | None = None,
    token_budget: int = 4096,
    prefix: PrefixCache | None = None,
) -> Float[np.ndarray, " n"]:
    """Mean log-probability of each answer's tokens."""
    from neva_tl.models import inference

    total, count = inference.answer_logprobs(
        model, list(examples), session=session, chat=chat, token_budget=token_budget, prefix=prefix
    )
    return np.asarray(total, dtype=float) / np.maximum(np.asarray(count), 1)
