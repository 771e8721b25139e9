"""Benchmark items in one format, independent of the file that they were read from."""

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

#: Scoring rule of a set. `choice`: the best of several texts; `letter`: the best of several option letters; `pair`: the good
#: one of two sentences; `last_word`: whether greedy decoding generates the word; `text`: perplexity.
Kind = Literal["choice", "letter", "pair", "last_word", "text"]


#: Metrics of each kind in words, for cards; `metrics.METRICS` computes them.
RULES: dict[Kind, str] = {
    "choice": "acc, acc_norm, acc_token: share of items whose right text is the most probable of several",
    "letter": "acc: share of items whose right option letter is the most probable one",
    "pair": "acc: share of pairs in which the good sentence is the more probable one",
    "last_word": "acc: share of last words that greedy decoding generates; perplexity of the word",
    "text": "perplexity per token and per byte",
}


@dataclass(frozen=True)
class Item:
    """One item of a set.

    Attributes:
        id: Identifier, unique in the set and equal in every reading of the file.
        cluster: Name of the group of dependent items (a repeated question, a paradigm), the unit of intervals. The item's id
            where the item is independent of the others.
        prompts: Prompt of each candidate, usually the same one.
        continuations: The candidates, each with a leading space where the text needs one.
        gold: Index of the right candidate.
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
        name: Name in tables.
        kind: Scoring rule.
        items: The items in the order of the file.
        total: Number of items before `limit` selected some.
        skipped: Number of malformed rows that were left out.
        note: Sentence about these rows; empty for none.
        source: File or folder that the items were read from.
    """

    name: str
    kind: Kind
    items: tuple[Item, ...]
    total: int = 0
    skipped: int = 0
    note: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not self.items:
            raise InputError(f"{self.name} holds no items")
        if not self.total:
            object.__setattr__(self, "total", len(self.items))

    def limit(self, n: int | None) -> Benchmark:
        """Return at most n items, selected by the hash of their content, in order.

        The selection is a fixed random subset: it does not depend on the order of the file.

        Args:
            n: Largest number of items. None returns all of them.

        Raises:
            InputError: `n` is below 1.
        """
        if n is None or n >= len(self.items):
            return self
        if n < 1:
            raise InputError(f"a limit is a positive number of items, not {n}")
        # the index breaks ties between repeated items
        rank = sorted(range(len(self.items)), key=lambda i: (hash_key(_content(self.items[i]), "benchmark "), i))
        return replace(self, items=tuple(self.items[i] for i in sorted(rank[:n])))

    @property
    def key(self) -> str:
        """Hash of all fields that scores depend on."""
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
        facts = {"kind": self.kind, "items": len(self), "of": self.total, "metric": RULES[self.kind]}
        facts |= {"source": self.source or "not recorded", "skipped rows": self.skipped}
        return card(f"Benchmark {self.name}", facts, self.df, note=self.note, rows=5)

    def __repr__(self) -> str:
        source = f", from {self.source}" if self.source else ""
        return f"Benchmark({self.name}: {len(self):,} of {self.total:,} items, {self.kind}{source})"

    def show(self) -> Any:
        """Plot how often each index is the right answer, as a matplotlib figure.

        A share far above the others rewards guessing that index.
        """
        from neva_tl.plots import interval_plot

        share = self.df["gold"].value_counts(normalize=True).sort_index()
        table = pd.DataFrame({"label": [f"index {i}" for i in share.index], "est": share.to_numpy()})
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
    """Read a set from one JSON-lines file.

    Args:
        path: The file.
        what: Description of the expected file, for the error message where it is missing.
        keys: Keys that every row must have.
        item: Function (line, row) -> item. Raises `InputError` where the row is malformed.
        kind: Scoring rule of the set.
        name: Name of the set. Default: the file's stem.
        skip_bad: Leave malformed rows out and count them in `note`. The first malformed row raises otherwise.

    Raises:
        InputError: The path is missing or empty, or a row is malformed (the message names file and line).
    """
    file = existing_file(path, what)
    name, bad = name or file.stem, bad_rows(skip_bad)
    items = []
    for line, row in read_jsonl(file, keys, bad=bad):
        try:
            items.append(item(line, row))
        except InputError as error:
            complain(f"{file}, line {line}: {error}", bad)
    return Benchmark(
        name, kind, tuple(items), skipped=len(bad or ()), note=counted(name, bad, len(items)), source=str(file)
    )


def text_field(row: dict[str, Any], key: str) -> str:
    """Return a text of a row without surrounding whitespace.

    Args:
        row: Object of a JSON-lines file.
        key: Key of the text.

    Raises:
        InputError: The text is missing, empty or not a string.
    """
    if not isinstance(row.get(key), str) or not row[key].strip():
        raise InputError(f"{key!r} should hold a text")
    return str(row[key]).strip()


def text_list_field(row: dict[str, Any], key: str) -> tuple[str, ...]:
    """Return at least two texts of a row without surrounding whitespace.

    Args:
        row: Object of a JSON-lines file.
        key: Key of the list.

    Raises:
        InputError: The entry is not a list, has fewer than two texts, or one of them is empty or not a string.
    """
    entries = row.get(key)
    if not isinstance(entries, list) or len(entries) < 2 or not all(isinstance(x, str) and x.strip() for x in entries):
        raise InputError(f"{key!r} should hold a list of two texts or more")
    return tuple(x.strip() for x in entries)


def index_field(row: dict[str, Any], key: str, n: int) -> int:
    """Return an index below n from a row.

    Args:
        row: Object of a JSON-lines file.
        key: Key of the index.
        n: Number of candidates.

    Raises:
        InputError: The entry is not an integer from 0 to n - 1.
    """
    index = row[key]
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < n:
        raise InputError(f"{key} is {index!r}: an index from 0 to {n - 1} is expected")
    return index
