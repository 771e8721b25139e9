"""Benchmark: the items of a public set in one shape, whatever file they came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from neva_tl.core.cache import content_key
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.prompts.splits import hash_key
from neva_tl.prompts.text_files import bad_rows, complain, counted, existing_file, read_jsonl

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


def jsonl_items(
    path: str | Path,
    what: str,
    keys: Sequence[str],
    item: Callable[[int, dict[str, Any]], Item],
    *,
    kind: Kind,
    name: str = "",
    skip_bad: bool = False,
) -> Benchmark:
    """A set of one JSON-lines file.

    Args:
        path: the file.
        what: it holds, for the complaint where it is absent.
        keys: that every row must have.
        item: (line, row) -> the item; raises InputError where the row is malformed.
        kind: how the set is scored.
        name: of the set; default: the file's.
        skip_bad: leave malformed rows out and say how many; they stop the reading else.

    Raises:
        InputError: nothing there, or a malformed row (file and line are named).
    """
    file = existing_file(path, what)
    name, bad = name or file.stem, bad_rows(skip_bad)
    items = []
    for line, row in read_jsonl(file, keys, bad=bad):
        try:
            items.append(item(line, row))
        except InputError as error:
            complain(f"{file}, line {line}: {error}", bad)
    return Benchmark(name, kind, tuple(items), skipped=counted(name, bad))
