"""Benchmark: the items of a public set in one shape, whatever file they came from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from neva_tl._cache import content_key
from neva_tl._html import card
from neva_tl.errors import InputError
from neva_tl.prompts.splits import hash_key

#: How a set is scored. `choice`: the best of several texts; `letter`: the best of several option letters; `pair`: the good
#: of two sentences; `last_word`: does greedy decoding write the word; `text`: perplexity.
Kind = Literal["choice", "letter", "pair", "last_word", "text"]


@dataclass(frozen=True)
class Item:
    """One question of a set.

    Attributes:
        id: unique in the set, the same in every reading of the file.
        cluster: what the item shares with others (a repeated question, a paradigm), the unit of intervals; its own id where
            it stands alone.
        prompts: the prompt of each candidate (mostly one and the same).
        continuations: the candidates, each with its own leading space where one belongs there.
        gold: which candidate is right.
    """

    id: str
    cluster: str
    prompts: tuple[str, ...]
    continuations: tuple[str, ...]
    gold: int = 0


@dataclass(frozen=True, eq=False)
class Benchmark:
    """The items of a public set.

    Attributes:
        name: as tables print it.
        kind: how it is scored.
        items: in the order of the file.
        total: items before `limit` took some.
        skipped: malformed rows that were left out.
    """

    name: str
    kind: Kind
    items: tuple[Item, ...]
    total: int = 0
    skipped: int = 0

    def __post_init__(self) -> None:
        if not self.items:
            raise InputError(f"{self.name} holds no items")
        if not self.total:
            object.__setattr__(self, "total", len(self.items))

    def limit(self, n: int | None) -> Benchmark:
        """At most n items, chosen by the hash of their content (a fixed random part of the whole), in order.

        Raises:
            InputError: n is below 1.
        """
        if n is None or n >= len(self.items):
            return self
        if n < 1:
            raise InputError(f"a limit is a positive number of items, not {n}")
        # the id's tie-break keeps repeated items apart
        rank = sorted(range(len(self.items)), key=lambda i: (hash_key(_content(self.items[i]), "benchmark "), i))
        return replace(self, items=tuple(self.items[i] for i in sorted(rank[:n])))

    @property
    def key(self) -> str:
        """Hash of everything that scores depend on."""
        rows = [[x.id, x.cluster, list(x.prompts), list(x.continuations), x.gold] for x in self.items]
        return content_key(self.kind, rows)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def df(self) -> pd.DataFrame:
        """One row per item: item, cluster, prompt, candidates, gold."""
        rows = [(x.id, x.cluster, x.prompts[x.gold], list(x.continuations), x.gold) for x in self.items]
        return pd.DataFrame(rows, columns=["item", "cluster", "prompt", "candidates", "gold"])

    def _repr_html_(self) -> str:
        facts = {"kind": self.kind, "items": len(self), "of": self.total, "skipped rows": self.skipped}
        return card(f"Benchmark {self.name}", facts, self.df, rows=5)

    def show(self) -> Any:
        """How often each place holds the right answer, as a matplotlib figure (one far ahead invites guessing)."""
        from neva_tl.plots import interval_plot

        share = self.df["gold"].value_counts(normalize=True).sort_index()
        table = pd.DataFrame({"label": [f"place {i}" for i in share.index], "est": share.to_numpy()})
        return interval_plot(table.assign(lo=float("nan"), hi=float("nan")), title=self.name, axis="share of items")


def _content(item: Item) -> str:
    return "\x1f".join((*item.prompts, *item.continuations))


def bad_rows(skip_bad: bool) -> list[str] | None:
    """The list that readers put complaints on; None makes them stop at the first."""
    return [] if skip_bad else None


def counted(name: str, bad: Sequence[str] | None) -> int:
    """How many rows were left out, said on stderr."""
    if bad:
        print(f"{name}: {len(bad)} malformed rows left out, the first: {bad[0]}", file=sys.stderr)
    return len(bad or ())
