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
from neva_tl.evaluation.judges.endorsement import DIRECTIONS, Direction, message, question
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
        """Text-value pairs per second that the model answered so far; NaN where all were cached."""
        return self._n_pairs / self._seconds if self._seconds else float("nan")

    def log_odds(
        self,
        texts: Sequence[str],
        prompts: Sequence[str] | None = None,
        mask: Bool[np.ndarray, "n v"] | None = None,
        directions: Sequence[Direction] = DIRECTIONS,
    ) -> Float[np.ndarray, "n v 2"]:
        """Return the log-odds of Yes over No per text, value and direction.

        Args:
            texts: The texts to read.
            prompts: The prompt of each text.
            mask: The text-value pairs to ask about; None for all. The others are NaN.
            directions: The directions to ask for. The others are NaN.
        """
        pairs = [(t, p or "") for t, p in zip(texts, [""] * len(texts) if prompts is None else prompts, strict=True)]
        mask = np.ones((len(pairs), len(self.theory)), dtype=bool) if mask is None else mask
        keys = {
            (i, j, k): self._key(*pairs[i], j, k)
            for i, j in np.argwhere(mask).tolist()
            for k, one in enumerate(DIRECTIONS)
            if one in directions
        }
        records = self._store.get_many(keys.values())
        missing: dict[tuple[str, str], dict[int, tuple[int, ...]]] = {}
        for (i, j, k), key in keys.items():
            if key not in records:
                columns = missing.setdefault(pairs[i], {})
                columns[j] = tuple(sorted({*columns.get(j, ()), k}))
        if missing:
            records |= self._ask(missing)
        out = np.full((len(pairs), len(self.theory), len(DIRECTIONS)), np.nan)
        for cell, key in keys.items():
            out[cell] = records[key]
        return out

    def _ask(self, missing: Mapping[tuple[str, str], Mapping[int, tuple[int, ...]]]) -> dict[str, float]:
        """Ask the model about some values and directions for each text and prompt; cache each batch as it arrives."""
        requests: list[Request] = []
        keys: list[list[list[str]]] = []
        for pair, columns in missing.items():
            # one request asks for the same directions of all its values
            for wanted in sorted(set(columns.values())):
                row = [j for j, needed in columns.items() if needed == wanted]
                requests.append((*pair, [self.theory.values[j] for j in row], [DIRECTIONS[k] for k in wanted]))
                keys.append([[self._key(*pair, j, k) for k in wanted] for j in row])
        records: dict[str, float] = {}
        total = sum(map(len, keys))
        name = f"llm:{self.answers.label}"
        bar = progress_bar(total=total, desc=name, unit="pair", progress=self.progress, leaf=True)
        _ = self.answers.model  # loading is no part of the speed
        start = time.perf_counter()

        def store(rows: Sequence[int], answers: Sequence[np.ndarray]) -> None:
            new = {
                key: float(answer)
                for row, table in zip(rows, answers, strict=True)
                for names, line in zip(keys[row], table, strict=True)
                for key, answer in zip(names, line, strict=True)
            }
            records.update(new)
            # an answer that is not a number is missing, and the next call asks again
            self._store.put_many({key: answer for key, answer in new.items() if np.isfinite(answer)})
            bar.update(sum(len(answer) for answer in answers))

        with bar:
            self.answers.ask(requests, store)
        self._n_pairs += total
        self._seconds += time.perf_counter() - start
        return records

    def _key(self, text: str, prompt: str, j: int, k: int) -> str:
        turn = message(text, prompt, question(self.theory.values[j], DIRECTIONS[k]))
        return content_key("log-odds", self.answers.identity, turn)

    @cached_property
    def _store(self) -> JsonCache:
        if isinstance(self.cache, JsonCache):
            return self.cache
        if self.cache is not None:
            return JsonCache(self.cache)
        return JsonCache(user_cache.entry_folder("judges", self.answers.identity[:16]) / "log_odds.sqlite")
