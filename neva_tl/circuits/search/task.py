"""The behaviour a circuit explains: texts that express a value make the value's words likelier than texts that do not.

    m = mean over + texts of log P(S) / P(not S)  -  the same over - texts,

S = the value's word tokens, P the model's next-token probability after each read token (in nats; the contrast is ours).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl.attribution import value_tokens
from neva_tl.attribution.decompose import At, read_mask
from neva_tl.core.arguments import check_arguments
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.core.theories import ValueName, ValueTheory
from neva_tl.models import Model, inference
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.example import Example

#: Suffix of English statements after which a word that names a value is likely (ours). On SmolLM2's train texts the contrast
#: of power grows from .5 to 1.1 nats; four wordings were compared there, on power, benevolence, tradition and security.
LEAD = " In one word, this is about"


@dataclass(frozen=True)
class ValueTask:
    """Texts of both poles of one value, and the word tokens of each value.

    Attributes:
        value: The value whose words m is about.
        examples: The texts.
        signs: +1 or -1 per text (its pole).
        clusters: Cluster of each text; intervals resample clusters.
        tokens: As returned by `attribution.value_tokens`.
        at: `last` reads m after the last token, `answer` averages over the answer tokens.
        chat: As in `inference.encode`.
        split: Split that the texts come from.
        lead: Suffix appended to every text.

    Example:
        >>> task = nv.circuits.value_task(model, pairs, "benevolence", per_pole=2, at="last")
        >>> len(task.examples), task.subset([0, 1]).signs.tolist()
        (4, [1.0, -1.0])
    """

    value: str
    examples: tuple[Example, ...]
    signs: Float[np.ndarray, " n"]
    clusters: np.ndarray
    tokens: pd.DataFrame
    at: At = "answer"
    chat: bool | None = None
    split: str = "train"
    lead: str = ""

    __repr__ = brief

    def __post_init__(self) -> None:
        if not len(self.examples) == len(self.signs) == len(self.clusters):
            raise InputError("a task needs one sign and one cluster per text")
        if not {-1.0, 1.0} <= set(self.signs.tolist()):
            raise InputError(f"the task for {self.value} needs texts of both poles")
        if self.value not in self.ids:
            raise InputError(f"{self.value} has no tokens of its own: give words that tell the values apart")

    @cached_property
    def ids(self) -> dict[str, list[int]]:
        """Token ids per value, without tokens that two values claim."""
        plain = self.tokens[~self.tokens["shared"]]
        return {str(name): rows["token"].tolist() for name, rows in plain.groupby("value", sort=False)}

    @cached_property
    def weights(self) -> Float[np.ndarray, " n"]:
        """Weight of each text in m: 1 / n of its pole, negative on the - pole."""
        size = {sign: float((self.signs == sign).sum()) for sign in (1.0, -1.0)}
        return self.signs / np.array([size[sign] for sign in self.signs.tolist()])

    def subset(self, rows: Sequence[int]) -> ValueTask:
        """Return the task on some of its texts.

        Args:
            rows: Indices of the texts; both poles must be among them.
        """
        index = np.asarray(rows)
        examples = tuple(self.examples[i] for i in rows)
        return replace(self, examples=examples, signs=self.signs[index], clusters=self.clusters[index])

    def describe(self) -> str:
        """One line for captions."""
        where = "last token" if self.at == "last" else "answer tokens"
        where += f" of {self.lead.strip()!r}" if self.lead else ""
        return (
            f"log-odds that the next token is a word of {self.value}, read at the {where}: "
            f"{int((self.signs > 0).sum())} texts that express it against {int((self.signs < 0).sum())} "
            f"that do not ({self.split} split)"
        )


@check_arguments
def value_task(
    model: Model,
    pairs: ContrastSet,
    value: ValueName,
    *,
    split: str = "train",
    per_pole: int = 64,
    values: Sequence[ValueName] | None = None,
    words: Mapping[ValueName, Sequence[str]] | None = None,
    at: At = "answer",
    chat: bool | None = None,
    lead: str = "",
) -> ValueTask:
    """Build a task from the first texts of each pole of one value in one split, spread over the clusters.

    Args:
        model: A TransformerLens model; its tokenizer decides which words are single tokens.
        pairs: The contrast set.
        value: The value whose words m is about.
        split: Split of the contrast set.
        per_pole: Maximum texts per pole (whole pairs, where texts are paired).
        values: Values whose tokens are measured as well; None for all of the set's theory, without those that have no token
            in this vocabulary.
        words: As in `attribution.value_tokens`; by default half A of our lists.
        at: `last` where a value's words come next (the demo's contrasts), `answer` for statements.
        chat: As in `inference.encode`.
        lead: Suffix for every text that makes a value's word likely next (`LEAD` in English); use with `at="last"`.

    Raises:
        InputError: The split has no texts of the value, the value has no token, or `per_pole` is below 2.

    Example:
        >>> task = nv.circuits.value_task(model, pairs, "benevolence", per_pole=2, at="last")
        >>> task.value, task.split, len(task.examples)
        ('benevolence', 'train', 4)
    """
    if per_pole < 2:
        raise InputError(f"a task needs at least 2 texts per pole, not {per_pole}")
    tokens = _tokens(model, value, values, words, pairs.theory)
    contrasts = pairs.split(split).for_value(value)
    df = contrasts.df
    # round-robin over clusters, so that a small task still covers many frames
    unit = df["pair_id"].where(df["pair_id"].notna(), df.index.astype(str)).astype(str)
    turn = pd.Series(unit.groupby([df["cluster"], df["pole"]]).cumcount(), index=df.index)
    order = pd.DataFrame({"turn": turn, "unit": unit, "pole": df["pole"]}).sort_values(["turn", "unit"], kind="stable")
    rows = np.sort(np.concatenate([order.index[order["pole"] == pole][:per_pole] for pole in ("+", "-")]))
    examples = contrasts.examples()
    return ValueTask(
        value=value,
        examples=tuple(replace(examples[i], answer=examples[i].answer + lead) for i in rows),
        signs=np.where(df["pole"].to_numpy()[rows] == "+", 1.0, -1.0),
        clusters=df["cluster"].astype(str).to_numpy()[rows],
        tokens=tokens,
        at=at,
        chat=chat,
        split=split,
        lead=lead,
    )


def _tokens(
    model: Model,
    value: str,
    values: Sequence[str] | None,
    words: Mapping[str, Sequence[str]] | None,
    theory: ValueTheory,
) -> pd.DataFrame:
    """Return the tokens of the task's value and of the others; by default, others without a token are left out."""
    names = theory.names if values is None else tuple(values)
    others_optional = words is None and names == theory.names
    table = value_tokens(model, names, words, theory, strict=not others_optional)
    # the task's own value needs a token: this raises the error that says why it has none
    return table if value in set(table["value"]) else value_tokens(model, (*names, value), words, theory)


def read_log_odds(
    logits: Float[Tensor, "b n v"], batch: inference.Batch, at: At, groups: Sequence[Sequence[int]]
) -> Float[Tensor, "b n_groups"]:
    """Log-odds of token sets per text, log P(S) - log P(not S), averaged over its read tokens.

    Args:
        logits: Logits of the batch.
        batch: The encoded texts.
        at: `last` or `answer`, see `ValueTask`.
        groups: Token ids of each set S.
    """
    mask = read_mask(batch, at)
    read = logits[mask].float()
    normaliser = read.logsumexp(dim=-1)
    inside = torch.stack([read[:, list(ids)].logsumexp(dim=-1) for ids in groups], dim=-1) - normaliser[:, None]
    odds = inside - torch.log1p(-inside.exp().clamp_max(1 - 1e-7))
    text = mask.nonzero()[:, 0]
    summed = odds.new_zeros(len(mask), len(groups)).index_add(0, text, odds)
    return summed / mask.sum(dim=1, keepdim=True).clamp_min(1)
