"""CachedJudge: a text judge with a content-addressed cache of its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from neva_tl.core.cache import JsonCache, content_key
from neva_tl.core.content_hash import class_name, content_hash
from neva_tl.core.files import to_json
from neva_tl.core.theories import ValueTheory
from neva_tl.evaluation.judges.base import TextJudge, check_scores, judge_theory, judge_values
from neva_tl.evaluation.judges.card import judge_card, judge_line


@dataclass(frozen=True, eq=False)
class CachedJudge:
    """A TextJudge that calls another one only for texts that are not in its cache.

    Scores, opposition and validity are those of the other judge. The cache key is the judge's identity (name and `fingerprint`;
    without one, all its fields), text and prompt; each batch is committed. A record without a score (NaN: the judge failed) is
    not cached, so the next call scores the text again. Code is not part of the key: start a new file after a change of a judge's
    code.

    Attributes:
        judge: The judge that reads the texts.
        path: The cache: a file, a `JsonCache`, or None for a cache in memory.
        batch_size: Number of texts between two commits.

    Raises:
        InputError: The judge has no fingerprint, and one of its fields cannot be hashed by content.
    """

    judge: TextJudge
    path: JsonCache | str | Path | None = None
    batch_size: int = 256
    _kept: JsonCache = field(init=False, repr=False)
    _who: str = field(init=False, repr=False)
    _failed: dict[str, dict[str, Any]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_who", judge_identity(self.judge))
        cache = self.path if isinstance(self.path, JsonCache) else JsonCache(self.path)
        object.__setattr__(self, "_kept", cache)

    _reads = "what the judge behind the cache reads"
    __repr__, _repr_html_ = judge_line, judge_card

    def _facts(self) -> dict[str, Any]:
        return {"judge": repr(self.judge)}

    @property
    def name(self) -> str:
        """Name of the wrapped judge."""
        return self.judge.name

    @property
    def values(self) -> tuple[str, ...]:
        """Values that the wrapped judge scores."""
        return judge_values(self.judge)

    @property
    def theory(self) -> ValueTheory:
        """Theory of the wrapped judge's values."""
        return judge_theory(self.judge)

    @property
    def unit(self) -> str:
        """Unit of the wrapped judge."""
        return self.judge.unit

    @property
    def question(self) -> str:
        """Question of the wrapped judge, empty without one; printed with results."""
        return str(getattr(self.judge, "question", ""))

    @property
    def fingerprint(self) -> str:
        """Identity of the wrapped judge, part of the cache keys."""
        return self._who

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n v"]:
        """Return the judge's scores; texts on which it failed before are scored again.

        Args:
            texts: The texts to score.
            prompts: The prompt of each text.
        """
        self._failed.clear()
        return self._table([row["score"] for row in self._read(texts, prompts)])

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n v"] | None:
        """Return the judge's opposition scores; None where it does not measure opposition.

        Args:
            texts: The texts to score.
            prompts: The prompt of each text.
        """
        rows = [row["oppose"] for row in self._read(texts, prompts)]
        if not rows:
            return self.judge.oppose(texts, prompts)
        return None if any(row is None for row in rows) else self._table(rows)

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Bool[np.ndarray, " n"]:
        """Return the judge's validity."""
        return np.array([row["valid"] for row in self._read(texts, prompts)], dtype=bool)

    def _table(self, rows: Sequence[Sequence[float | None]]) -> Float[np.ndarray, "n v"]:
        return np.array(rows, dtype=float).reshape(-1, len(self.values))

    def _read(self, texts: Sequence[str], prompts: Sequence[str] | None) -> list[dict[str, Any]]:
        """Return one record per text, from the cache or from the judge.

        The judge reads each distinct text once.
        """
        conditions = [None] * len(texts) if prompts is None else list(prompts)
        keys = [content_key("reading", self._who, t, p) for t, p in zip(texts, conditions, strict=True)]
        # opposition and validity of these texts come from the records of `score`, failed or not
        records = self._kept.get_many(keys) | {key: self._failed[key] for key in keys if key in self._failed}
        todo = {key: index for index, key in enumerate(keys) if key not in records}
        new = list(todo)
        for start in range(0, len(new), self.batch_size):
            batch = new[start : start + self.batch_size]
            some = [texts[todo[key]] for key in batch]
            rows = self._ask(some, None if prompts is None else [prompts[todo[key]] for key in batch])
            new_records = dict(zip(batch, rows, strict=True))
            records |= new_records
            self._failed.update({key: row for key, row in new_records.items() if not _complete(row)})
            self._kept.put_many({key: row for key, row in new_records.items() if _complete(row)})
        return [records[key] for key in keys]

    def _ask(self, texts: Sequence[str], prompts: Sequence[str] | None) -> list[dict[str, Any]]:
        score = np.asarray(self.judge.score(texts, prompts), dtype=float)
        check_scores(score, len(texts), len(self.values))
        oppose = self.judge.oppose(texts, prompts)
        valid = np.asarray(self.judge.valid(texts, prompts), dtype=bool)
        rows = [
            {"score": to_json(s.tolist()), "oppose": None, "valid": bool(v)} for s, v in zip(score, valid, strict=True)
        ]
        if oppose is not None:
            check_scores(np.asarray(oppose), len(texts), len(self.values))
            for row, ten in zip(rows, np.asarray(oppose, dtype=float), strict=True):
                row["oppose"] = to_json(ten.tolist())
        return rows


def judge_identity(judge: Any) -> str:
    """Hash a judge's class and name with its `fingerprint`, or with all its fields.

    Args:
        judge: The judge. `fingerprint` may be an attribute or a method.

    Raises:
        InputError: The judge has no fingerprint, and one of its fields cannot be hashed by content.
    """
    content = getattr(judge, "fingerprint", None)
    content = content() if callable(content) else content
    if content is None:
        content = judge if is_dataclass(judge) else dict(vars(judge))
    return content_key(class_name(type(judge)), judge.name, content_hash(content))


def _complete(row: dict[str, Any]) -> bool:
    return None not in row["score"] and None not in (row["oppose"] or ())
