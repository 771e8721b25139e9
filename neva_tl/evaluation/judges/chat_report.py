"""Counts of the chat judge: questions, cache hits, failures, tokens and cost."""

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
        judge: Name of the judge.
        question: The question.
        asked: Number of questions sent to the endpoint (distinct texts, this process).
        cached: Number of cache hits, from an earlier process or call.
        requests: Number of HTTP requests.
        retried: Number of requests that repeat a lost or rejected one.
        reasked: Number of questions sent again because the answer was unreadable or lacked a value.
        failed: Kind of failure -> number of questions without an answer, or with an incomplete one.
        undecided: Number of scores that the endpoint left open (null).
        tokens_in: Number of tokens read, as reported by the endpoint.
        tokens_out: Number of tokens written, as reported by the endpoint.
        uncounted: Number of answers without a report of tokens.
        cost: Cost of `tokens_in` and `tokens_out` in the prices' currency; None without prices.
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
        """Return one row per count: what, n."""
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
        return card(f"Work of {self.judge}", table=self.table(), rows=30, note=f"The question: {self.question}")

    def show(self) -> Any:
        """Plot the counts as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        table = self.table().rename(columns={"what": "label", "n": "est"})
        table = table[~table["label"].isin(["tokens_in", "tokens_out", "cost"])]
        return interval_plot(table.assign(lo=float("nan"), hi=float("nan")), title=self.judge, axis="count", guide=0.0)


@dataclass
class Tally:
    """Thread-safe running counts for a report."""

    _counts: Counter[str] = field(default_factory=Counter)
    _failed: dict[str, str] = field(default_factory=dict)
    _undecided: dict[str, int] = field(default_factory=dict)
    _answered: set[str] = field(default_factory=set)
    _cached: set[str] = field(default_factory=set)
    _silent: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **counts: int) -> None:
        """Add to counts.

        Args:
            **counts: Name of the count -> number to add.
        """
        with self._lock:
            self._counts.update({name: int(n) for name, n in counts.items()})

    def answered(self, tokens: tuple[int, int] | None) -> None:
        """Record an answer of any kind.

        Args:
            tokens: Tokens read and written; None where the endpoint did not report them.
        """
        with self._lock:
            self._silent = 0
            if tokens is None:
                self._counts["uncounted"] += 1
            else:
                self._counts["tokens_in"] += tokens[0]
                self._counts["tokens_out"] += tokens[1]

    def silent(self, key: str, kind: str) -> int:
        """Record a question without an answer.

        Args:
            key: Key of the question.
            kind: Kind of failure.

        Returns:
            The number of consecutive questions without an answer.
        """
        with self._lock:
            self._note(key, kind, 0)
            self._silent += 1
            return self._silent

    def read(self, key: str, failure: str | None, undecided: int) -> None:
        """Record the final answer of a question.

        Args:
            key: Key of the question.
            failure: Kind of failure; None for a complete answer.
            undecided: Number of scores that were left open.
        """
        with self._lock:
            self._answered.add(key)
            self._note(key, failure, undecided)

    def cached(self, records: Mapping[str, Any]) -> None:
        """Record cache hits; answers that this object received itself do not count again.

        Args:
            records: Key of each question -> cached record.
        """
        with self._lock:
            for key, record in records.items():
                if key not in self._answered:
                    self._cached.add(key)
                    self._note(key, record["failure"], record["undecided"])

    def _note(self, key: str, failure: str | None, undecided: int) -> None:
        self._failed.pop(key, None)
        if failure is not None:
            self._failed[key] = failure
        self._undecided[key] = undecided

    def report(self, judge: str, question: str, prices: tuple[float | None, float | None]) -> ChatReport:
        """Return the counts so far.

        Args:
            judge: Name of the judge.
            question: The question.
            prices: Price of a million tokens read and of a million tokens written.
        """
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
