"""The behaviour a circuit explains: a value's words are likelier after texts that express it than after texts that do not.

    m = mean over + texts of log P(S) / P(not S)  -  the same over - texts,

S = the value's word tokens, P the model's next-token probability behind each read token (in nats; the contrast is ours).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl.attribution import value_tokens
from neva_tl.attribution.decompose import At, read_mask
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.models import Model, inference
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.example import Example

#: What is put behind English statements: with it a word that names a value is likely to come next (ours). On SmolLM2's train
#: texts the contrast of power grows from .5 to 1.1 nats; four wordings were compared there, on power, benevolence, tradition
#: and security.
LEAD = " In one word, this is about"


@dataclass(frozen=True)
class ValueTask:
    """Texts of both poles of one value, and the tokens that stand for each value.

    Attributes:
        value: whose words m is about.
        examples: the texts.
        signs: +1 or -1 per text (its pole).
        clusters: the texts' clusters; intervals resample these.
        tokens: as `attribution.value_tokens` gives.
        at: m is read behind the last token, or averaged over the answer tokens.
        chat: as in `inference.encode`.
        split: where the texts come from.
        lead: what every text was made to end with.
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

    def __post_init__(self) -> None:
        if not len(self.examples) == len(self.signs) == len(self.clusters):
            raise InputError("a task needs one sign and one cluster per text")
        if not {-1.0, 1.0} <= set(self.signs.tolist()):
            raise InputError(f"the task for {self.value} needs texts of both poles")
        if self.value not in self.ids:
            raise InputError(f"no tokens that are {self.value}'s alone: give words that tell the values apart")

    @cached_property
    def ids(self) -> dict[str, list[int]]:
        """Token ids per value; tokens that two values claim are left out."""
        plain = self.tokens[~self.tokens["shared"]]
        return {str(name): rows["token"].tolist() for name, rows in plain.groupby("value", sort=False)}

    @cached_property
    def weights(self) -> Float[np.ndarray, " n"]:
        """What each text counts for in m: 1 / n of its pole, negative on the - pole."""
        size = {sign: float((self.signs == sign).sum()) for sign in (1.0, -1.0)}
        return self.signs / np.array([size[sign] for sign in self.signs.tolist()])

    def describe(self) -> str:
        """One line for captions."""
        where = "last token" if self.at == "last" else "answer tokens"
        where += f" of {self.lead.strip()!r}" if self.lead else ""
        return (
            f"log-odds that the next token is a word of {self.value}, read at the {where}: "
            f"{int((self.signs > 0).sum())} texts that express it against {int((self.signs < 0).sum())} "
            f"that do not ({self.split} split)"
        )


def value_task(
    model: Model,
    pairs: ContrastSet,
    value: str,
    *,
    split: str = "train",
    per_pole: int = 64,
    values: Sequence[str] = VALUES,
    words: Mapping[str, Sequence[str]] | None = None,
    at: At = "answer",
    chat: bool | None = None,
    lead: str = "",
) -> ValueTask:
    """The first so many pairs (texts of each pole, where unpaired) of one value in one split, spread over the clusters.

    Args:
        per_pole: texts of each pole at most.
        values: whose tokens are measured beside it.
        words: as in `attribution.value_tokens`; by default half A of our lists.
        at: `last` where a value's words come next (the demo's contrasts), `answer` for statements.
        lead: put behind every text, so that a value's word is likely next (`LEAD` in English); with `at="last"`.

    Raises:
        InputError: the prompts hold nothing of the value in that split, or `per_pole` below 2.
    """
    if per_pole < 2:
        raise InputError(f"a task needs at least 2 texts per pole, not {per_pole}")
    mine = pairs.split(split).for_value(value)
    df = mine.df
    # round-robin over clusters, so that a small task still sees many frames
    unit = df["pair_id"].where(df["pair_id"].notna(), df.index.astype(str)).astype(str)
    turn = pd.Series(unit.groupby([df["cluster"], df["pole"]]).cumcount(), index=df.index)
    order = pd.DataFrame({"turn": turn, "unit": unit, "pole": df["pole"]}).sort_values(["turn", "unit"], kind="stable")
    kept = np.sort(np.concatenate([order.index[order["pole"] == pole][:per_pole] for pole in ("+", "-")]))
    examples = mine.examples()
    return ValueTask(
        value=value,
        examples=tuple(Example(examples[i].prompt, examples[i].answer + lead) for i in kept),
        signs=np.where(df["pole"].to_numpy()[kept] == "+", 1.0, -1.0),
        clusters=df["cluster"].astype(str).to_numpy()[kept],
        tokens=value_tokens(model, values, words),
        at=at,
        chat=chat,
        split=split,
        lead=lead,
    )


def read_log_odds(
    logits: Float[Tensor, "b n v"], batch: inference.Batch, at: At, groups: Sequence[Sequence[int]]
) -> Float[Tensor, "b n_groups"]:
    """Per text the log-odds of token sets, log P(S) - log P(not S), averaged over its read tokens."""
    rows = read_mask(batch, at)
    chosen = logits[rows].float()
    whole = chosen.logsumexp(dim=-1)
    inside = torch.stack([chosen[:, list(ids)].logsumexp(dim=-1) for ids in groups], dim=-1) - whole[:, None]
    odds = inside - torch.log1p(-inside.exp().clamp_max(1 - 1e-7))
    text = rows.nonzero()[:, 0]
    summed = odds.new_zeros(len(rows), len(groups)).index_add(0, text, odds)
    return summed / rows.sum(dim=1, keepdim=True).clamp_min(1)
