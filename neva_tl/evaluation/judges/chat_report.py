"""What the chat judge did: questions asked, answered from the cache, retried and failed, tokens and cost."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from neva_tl.core.cards import card


@dataclass(frozen=True)
class ChatReport:
    """Counts of one judge's work.

    Attributes:
        judge, question: whose, and what was asked.
        asked: questions put to the endpoint (distinct texts, this process).
        cached: questions whose answer was known from an earlier process or call.
        requests: HTTP requests sent; retried: of those, repeats of a lost or turned down request.
        reasked: questions put once more since the answer could not be read or lacked a value.
        failed: kind -> questions that lack an answer, or part of it.
        undecided: numbers that the endpoint left open (null).
        tokens_in, tokens_out: read and written by the endpoint, as it says; uncounted: answers that did not say.
        cost: in the prices' currency; None without prices. Counts what `tokens_*` count.
    """

    judge: str
    question: str
    asked: int
    cached: int
    requests: int
    retried: int
    reasked: int
    failed: dict[str, int]
    undecided: int
    tokens_in: int
    tokens_out: int
    uncounted: int
    cost: float | None

    def table(self) -> pd.DataFrame:
        """One row per count: what, n."""
        names = ("asked", "cached", "requests", "retried", "reasked")
        rows: list[tuple[str, float]] = [(name, getattr(self, name)) for name in names]
        rows += [(f"failed: {kind}", n) for kind, n in sorted(self.failed.items())]
        rows += [(name, getattr(self, name)) for name in ("undecided", "tokens_in", "tokens_out", "uncounted")]
        if self.cost is not None:
            rows.append(("cost", self.cost))
        return pd.DataFrame(rows, columns=["what", "n"])

    def __str__(self) -> str:
        bad = ", ".join(f"{n} {kind}" for kind, n in sorted(self.failed.items())) or "none"
        cost = "" if self.cost is None else f", cost {self.cost:.4g}"
        return (
            f"{self.judge}: {self.asked} asked, {self.cached} cached, {self.retried} retried, {self.reasked} asked again, "
            f"failed: {bad}; {self.tokens_in} tokens in, {self.tokens_out} out{cost}"
        )

    def _repr_html_(self) -> str:
        return card(f"What {self.judge} did", table=self.table(), rows=30, note=f"The question: {self.question}")

    def show(self) -> Any:
        """The counts as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        table = self.table().rename(columns={"what": "label", "n": "est"})
        table = table[~table["label"].isin(["tokens_in", "tokens_out", "cost"])]
        return interval_plot(table.assign(lo=float("nan"), hi=float("nan")), title=self.judge, axis="count", guide=0.0)


@dataclass
class Tally:
    """The running counts behind a report, safe over threads."""

    _counts: Counter[str] = field(default_factory=Counter)
    _failed: dict[str, str] = field(default_factory=dict)
    _undecided: dict[str, int] = field(default_factory=dict)
    _own: set[str] = field(default_factory=set)
    _cached: set[str] = field(default_factory=set)
    _silent: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **counts: int) -> None:
        """Add to counts by name."""
        with self._lock:
            self._counts.update({name: int(n) for name, n in counts.items()})

    def answered(self, tokens: tuple[int, int] | None) -> None:
        """An answer of any kind came."""
        with self._lock:
            self._silent = 0
            if tokens is None:
                self._counts["uncounted"] += 1
            else:
                self._counts["tokens_in"] += tokens[0]
                self._counts["tokens_out"] += tokens[1]

    def silent(self, key: str, kind: str) -> int:
        """A question got no answer; how many in a row now."""
        with self._lock:
            self._note(key, kind, 0)
            self._silent += 1
            return self._silent

    def read(self, key: str, failure: str | None, undecided: int) -> None:
        """A question's answer was read for good."""
        with self._lock:
            self._own.add(key)
            self._note(key, failure, undecided)

    def cached(self, records: Mapping[str, Any]) -> None:
        """These questions' answers were known; those that this object got itself are not counted again."""
        with self._lock:
            for key, record in records.items():
                if key not in self._own:
                    self._cached.add(key)
                    self._note(key, record["failure"], record["undecided"])

    def _note(self, key: str, failure: str | None, undecided: int) -> None:
        self._failed.pop(key, None)
        if failure is not None:
            self._failed[key] = failure
        self._undecided[key] = undecided

    def report(self, judge: str, question: str, prices: tuple[float | None, float | None]) -> ChatReport:
        """The counts so far."""
        with self._lock:
            n = self._counts
            cost = None
            if prices[0] is not None and prices[1] is not None:
                cost = (n["tokens_in"] * prices[0] + n["tokens_out"] * prices[1]) / 1e6
            return ChatReport(
                judge=judge,
                question=question,
                asked=n["asked"],
                cached=len(self._cached),
                requests=n["requests"],
                retried=n["requests"] - n["calls"],
                reasked=n["reasked"],
                failed=dict(Counter(self._failed.values())),
                undecided=sum(self._undecided.values()),
                tokens_in=n["tokens_in"],
                tokens_out=n["tokens_out"],
                uncounted=n["uncounted"],
                cost=cost,
            )
