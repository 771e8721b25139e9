"""The log-probability judge: log-odds of an expressing against an opposing answer.

For pair items of value j, `m = per-token log P(+) - log P(-)` of the answer. A score is `m / SD_j`, with SD_j frozen on unedited
validation items. It needs no generation, so it is the headline judge for real models. The measure is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from neva_tl.core.theories import ValueTheory
from neva_tl.evaluation.judges.base import ItemScores, Rewrite
from neva_tl.evaluation.judges.card import judge_card, judge_line
from neva_tl.evaluation.judges.items import Items, affirmation_items, pair_items
from neva_tl.models import Model
from neva_tl.models.inference.prompt_cache import PrefixCache
from neva_tl.models.inference.session import TokenSession
from neva_tl.prompts import ContrastSet, Example


@dataclass(frozen=True, eq=False)
class LogProbJudge:
    """A ModelJudge over fixed items; create it with `fit`, restrict it with `only`.

    Attributes:
        pairs: Pairs of all splits, from which `only` selects items.
        items: Examples of every measured value.
        sd: Value -> SD_j (nats per token) of the unedited model's m on validation items, frozen.
        neutral: The affirmation pairs; None leaves that column out.
        neutral_sd: SD of the affirmation pairs on the unedited model.
        forms: Forms of the pairs that count; None for all.
        chat: See `inference.encode`.
        token_budget: Tokens per batch.
        prefix: A `PrefixCache` over the items' prompts, used while every edit touches only generated tokens. Under other edits
            each measurement creates its own.

    Example:
        >>> judge = nv.evaluation.LogProbJudge.fit(model, pairs, per_value=4, affirmation=False)
        >>> with nv.edit(model, edit) as session:
        ...     edited = judge.measure(model, session)
        >>> len(edited.scores), len(edited.scores[0])  # values, items of each
        (10, 4)
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

    _reads = "the model's own log-probabilities of two answers; no text is generated"
    __repr__, _repr_html_ = judge_line, judge_card

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"pairs": self.pairs.name, "items": len(self.items.examples)}
        if self.forms:
            facts["forms"] = ", ".join(self.forms)
        return facts

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
            model: The unedited model.
            pairs: Pairs of all splits.
            split: Split of the scored items ("validation" in the search for doses, "test" for reported results).
            sd_split: Split of the items that determine SD_j.
            forms: Restricts the items of both splits; see `pair_items`.
            topics: Restricts the items of both splits (quick profiles); see `pair_items`.
            per_value: Restricts the items of both splits (quick profiles); see `pair_items`.
            affirmation: True for neva_tl's neutral pairs, False for none, or records (topic, prompt, affirm, negate).
            chat: See `inference.answer_logprobs`.
            token_budget: See `inference.answer_logprobs`.

        Raises:
            InputError: A split has too few items of a value, or its items have no spread.

        Example:
            >>> nv.evaluation.LogProbJudge.fit(model, pairs, per_value=4, affirmation=False).values[:2]
            ('self-direction', 'stimulation')
        """
        form_names = None if forms is None else tuple(forms)
        unit_items = pair_items(pairs.split(sd_split), forms=form_names, topics=topics, per_value=per_value)
        per_token = _per_token(model, unit_items.examples, chat=chat, token_budget=token_budget)
        sd = {group.name: group.sd(per_token) for group in unit_items.groups}
        neutral, neutral_sd = None, 1.0
        if affirmation is not False:
            neutral = affirmation_items(None if affirmation is True else affirmation)
            scores = _per_token(model, neutral.examples, chat=chat, token_budget=token_budget)
            neutral_sd = neutral.groups[0].sd(scores)
        items = pair_items(pairs.split(split), forms=form_names, topics=topics, per_value=per_value)
        return cls(pairs, items, sd, neutral, neutral_sd, form_names, chat, token_budget)

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
        """Create the judge from a unit that `fit` froze before, without running the model.

        Args:
            pairs: Pairs of all splits.
            sd: `sd` of the fitted judge.
            affirmation_sd: `neutral_sd` of the fitted judge.
            split: Split of the scored items.
            forms: Restricts the items; see `pair_items`.
            chat: See `inference.answer_logprobs`.
        """
        form_names = None if forms is None else tuple(forms)
        items = pair_items(pairs.split(split), forms=form_names)
        return cls(pairs, items, dict(sd), affirmation_items(None), affirmation_sd, form_names, chat)

    def only(
        self,
        *,
        split: str = "test",
        values: Sequence[str] | None = None,
        topics: int | None = None,
        per_value: int | None = None,
        affirmation: bool = True,
    ) -> LogProbJudge:
        """Return the judge with the same frozen unit on a subset of the items.

        Args:
            split: Split of the scored items.
            values: Names of the values; None for all.
            topics: Number of topics of each value; see `pair_items`.
            per_value: Largest number of pairs of each value; see `pair_items`.
            affirmation: Include the affirmation pairs.

        Raises:
            InputError: The split has no items of a value.

        Example:
            >>> judge = nv.evaluation.LogProbJudge.fit(model, pairs, per_value=4, affirmation=False)
            >>> judge.only(values=["power"], affirmation=False).values
            ('power',)
        """
        pairs = self.pairs if values is None else self.pairs.for_value(*values)
        items = pair_items(pairs.split(split), forms=self.forms, topics=topics, per_value=per_value)
        return replace(self, items=items, neutral=self.neutral if affirmation else None)

    def with_prefix(self, model: Model) -> LogProbJudge:
        """Return the judge with the unedited prompts' keys and values cached.

        Edits of generated tokens then run only the answers. Call it outside any `edit` block. Where the cache would not be exact
        (an edit that touches or reads the prompt, a rewritten prompt), each measurement runs every prompt once for all its
        answers.

        Args:
            model: The unedited model.
        """
        return replace(self, prefix=PrefixCache(model, self._examples(), chat=self.chat))

    @property
    def name(self) -> str:
        """Name in tables."""
        return "logprob"

    @property
    def unit(self) -> str:
        """The measure m in units of its spread over unedited items."""
        return "SD of log P(+)/P(-) per token"

    @property
    def values(self) -> tuple[str, ...]:
        """The measured values."""
        return tuple(group.name for group in self.items.groups)

    @property
    def theory(self) -> ValueTheory:
        """Theory of the values, as the pairs have it."""
        return self.pairs.theory

    def measure(self, model: Model, session: TokenSession | None = None, rewrite: Rewrite | None = None) -> ItemScores:
        """Compute item scores m / SD_j under the active edits.

        `extra["affirmation"]` contains the scores of the neutral pairs, where the judge has any.

        Args:
            model: A TransformerLens model.
            session: The active edit session; None for the unedited model.
            rewrite: Function that changes the prompts (role prompts).
        """
        examples = self._examples()
        if rewrite is not None:
            examples = [replace(example, prompt=rewrite(example.prompt)) for example in examples]
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
            theory=self.pairs.theory,
        )

    def _prefix_of(self, model: Model, examples: Sequence[Example], session: TokenSession | None) -> PrefixCache | None:
        if self.prefix is None or (examples == self._examples() and self.prefix.exact_for(model, session)):
            return self.prefix
        return PrefixCache(model, examples, chat=self.chat, session=session, token_budget=self.token_budget)

    def _examples(self) -> list[Example]:
        return [*self.items.examples, *(self.neutral.examples if self.neutral is not None else ())]


def _per_token(
    model: Model,
    examples: Sequence[Example],
    *,
    session: TokenSession | None = None,
    chat: bool | None = None,
    token_budget: int = 4096,
    prefix: PrefixCache | None = None,
) -> Float[np.ndarray, " n"]:
    """Compute the mean log-probability of each answer's tokens."""
    from neva_tl.models import inference

    total, count = inference.answer_logprobs(
        model, list(examples), session=session, chat=chat, token_budget=token_budget, prefix=prefix
    )
    return np.asarray(total, dtype=float) / np.maximum(np.asarray(count), 1)
