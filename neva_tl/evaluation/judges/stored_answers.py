"""Log-odds of a local model with a cache by content, so that no pair of text and value is asked for twice."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from neva_tl.core import user_cache
from neva_tl.core.cache import JsonCache, content_key
from neva_tl.core.messages import progress_bar
from neva_tl.core.theories import ValueTheory
from neva_tl.evaluation.judges.endorsement import DIRECTIONS, message, question
from neva_tl.evaluation.judges.local_answers import LocalAnswers, Request


class StoredAnswers:
    """The answers of a local model; each forward batch is committed before the next one runs.

    Args:
        answers: The model.
        theory: Theory of the values.
        cache: A file, a `JsonCache`, or None for the user's cache folder.
        progress: Show a progress bar on stderr.
    """

    def __init__(
        self, answers: LocalAnswers, theory: ValueTheory, cache: JsonCache | str | Path | None, *, progress: bool
    ) -> None:
        self.answers, self.theory, self.cache, self.progress = answers, theory, cache, progress
        self._n_pairs, self._seconds = 0, 0.0

    @property
    def pairs_per_second(self) -> float:
        """Text-value pairs per second that the model answered so far, both questions each; NaN where all were cached."""
        return self._n_pairs / self._seconds if self._seconds else float("nan")

    def log_odds(
        self, texts: Sequence[str], prompts: Sequence[str] | None = None, mask: Bool[np.ndarray, "n v"] | None = None
    ) -> Float[np.ndarray, "n v 2"]:
        """Return the log-odds of Yes over No per text, value and direction.

        Args:
            texts: The texts to read.
            prompts: The prompt of each text.
            mask: The text-value pairs to ask about; None for all. The others are NaN.
        """
        pairs = [(t, p or "") for t, p in zip(texts, [""] * len(texts) if prompts is None else prompts, strict=True)]
        mask = np.ones((len(pairs), len(self.theory)), dtype=bool) if mask is None else mask
        keys = {(i, j): self._key(*pairs[i], j) for i, j in np.argwhere(mask).tolist()}
        records = self._store.get_many(keys.values())
        columns: dict[tuple[str, str], list[int]] = {}
        for (i, j), key in keys.items():
            if key not in records and j not in (row := columns.setdefault(pairs[i], [])):
                row.append(j)
        if columns:
            records |= self._ask(columns)
        out = np.full((len(pairs), len(self.theory), len(DIRECTIONS)), np.nan)
        for (i, j), key in keys.items():
            out[i, j] = records[key]
        return out

    def _ask(self, columns: Mapping[tuple[str, str], list[int]]) -> dict[str, list[float]]:
        """Ask the model about the values at some indices for each text and prompt; cache each batch as it arrives."""
        requests: list[Request] = [(*pair, [self.theory.values[j] for j in row]) for pair, row in columns.items()]
        keys = [[self._key(*pair, j) for j in row] for pair, row in columns.items()]
        records: dict[str, list[float]] = {}
        total = sum(map(len, keys))
        name = f"llm:{self.answers.label}"
        bar = progress_bar(total=total, desc=name, unit="pair", progress=self.progress, leaf=True)
        _ = self.answers.model  # loading is no part of the speed
        start = time.perf_counter()

        def store(rows: Sequence[int], answers: Sequence[np.ndarray]) -> None:
            new = {
                key: answer.tolist()
                for row, table in zip(rows, answers, strict=True)
                for key, answer in zip(keys[row], table, strict=True)
            }
            records.update(new)
            # an answer that is not a number is missing, and the next call asks again
            self._store.put_many({key: answer for key, answer in new.items() if np.isfinite(answer).all()})
            bar.update(len(new))

        with bar:
            self.answers.ask(requests, store)
        self._n_pairs += total
        self._seconds += time.perf_counter() - start
        return records

    def _key(self, text: str, prompt: str, j: int) -> str:
        turns = [message(text, prompt, question(self.theory.values[j], one)) for one in DIRECTIONS]
        return content_key("log-odds", self.answers.identity, turns)

    @cached_property
    def _store(self) -> JsonCache:
        if isinstance(self.cache, JsonCache):
            return self.cache
        if self.cache is not None:
            return JsonCache(self.cache)
        return JsonCache(user_cache.entry_folder("judges", self.answers.identity[:16]) / "log_odds.sqlite")
