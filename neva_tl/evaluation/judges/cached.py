"""CachedJudge: let a text judge read every text once, and keep what it said by content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from neva_tl.core.cache import JsonCache, content_key
from neva_tl.core.content_hash import class_name, identity
from neva_tl.core.json_data import finite
from neva_tl.core.values import VALUES
from neva_tl.evaluation.judges.base import TextJudge, check_scores


@dataclass(frozen=True, eq=False)
class CachedJudge:
    """A TextJudge that asks another one only about texts it has not seen; same scores, opposition and validity.

    What was said is kept by the judge's identity (name and `fingerprint`; without one, all that it holds), text and prompt,
    and committed batch by batch. A reading that lacks a score (NaN: the judge failed) is not kept: the judge is asked again.
    Code is not looked at: after a change of a judge's code, start a new file.

    Attributes:
        judge: who reads.
        path: where readings are kept: a file, a `JsonCache`, or None for this object's memory.
        batch_size: texts read between two commits.

    Raises:
        InputError: the judge has no fingerprint and holds something that cannot be told by its content.
    """

    judge: TextJudge
    path: JsonCache | str | Path | None = None
    batch_size: int = 256
    _kept: JsonCache = field(init=False, repr=False)
    _who: str = field(init=False, repr=False)
    _failed: dict[str, dict[str, Any]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_who", judge_identity(self.judge))
        kept = self.path if isinstance(self.path, JsonCache) else JsonCache(self.path)
        object.__setattr__(self, "_kept", kept)

    @property
    def name(self) -> str:
        """The judge's own."""
        return self.judge.name

    @property
    def unit(self) -> str:
        """The judge's own."""
        return self.judge.unit

    @property
    def question(self) -> str:
        """What the judge asks, where it asks anything; printed with results."""
        return str(getattr(self.judge, "question", ""))

    @property
    def fingerprint(self) -> str:
        """The judge's identity: what its readings are kept under."""
        return self._who

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n 10"]:
        """As the judge's; readings that failed before are asked for again."""
        self._failed.clear()
        return _table([row["score"] for row in self._read(texts, prompts)])

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n 10"] | None:
        """As the judge's; None where it knows no opposition."""
        rows = [row["oppose"] for row in self._read(texts, prompts)]
        if not rows:
            return self.judge.oppose(texts, prompts)
        return None if any(row is None for row in rows) else _table(rows)

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Bool[np.ndarray, " n"]:
        """As the judge's."""
        return np.array([row["valid"] for row in self._read(texts, prompts)], dtype=bool)

    def _read(self, texts: Sequence[str], prompts: Sequence[str] | None) -> list[dict[str, Any]]:
        """One record per text: known, or read now (each distinct text once)."""
        given = [None] * len(texts) if prompts is None else list(prompts)
        keys = [content_key("reading", self._who, t, p) for t, p in zip(texts, given, strict=True)]
        # opposition and validity of the same texts go with the scores, failed or not
        found = self._kept.get_many(keys) | {key: self._failed[key] for key in keys if key in self._failed}
        todo = {key: place for place, key in enumerate(keys) if key not in found}
        new = list(todo)
        for start in range(0, len(new), self.batch_size):
            batch = new[start : start + self.batch_size]
            some = [texts[todo[key]] for key in batch]
            read = self._ask(some, None if prompts is None else [prompts[todo[key]] for key in batch])
            made = dict(zip(batch, read, strict=True))
            found |= made
            self._failed.update({key: row for key, row in made.items() if not _whole(row)})
            self._kept.put_many({key: row for key, row in made.items() if _whole(row)})
        return [found[key] for key in keys]

    def _ask(self, texts: Sequence[str], prompts: Sequence[str] | None) -> list[dict[str, Any]]:
        score = np.asarray(self.judge.score(texts, prompts), dtype=float)
        check_scores(score, len(texts))
        oppose = self.judge.oppose(texts, prompts)
        valid = np.asarray(self.judge.valid(texts, prompts), dtype=bool)
        rows = [
            {"score": finite(s.tolist()), "oppose": None, "valid": bool(v)} for s, v in zip(score, valid, strict=True)
        ]
        if oppose is not None:
            check_scores(np.asarray(oppose), len(texts))
            for row, ten in zip(rows, np.asarray(oppose, dtype=float), strict=True):
                row["oppose"] = finite(ten.tolist())
        return rows


def judge_identity(judge: Any) -> str:
    """Who a judge is: its name with its `fingerprint` (an attribute or a method), or with all that it holds.

    Raises:
        InputError: it has no fingerprint and holds what cannot be told by its content.
    """
    own = getattr(judge, "fingerprint", None)
    own = own() if callable(own) else own
    if own is None:
        own = judge if is_dataclass(judge) else dict(vars(judge))
    return content_key(class_name(type(judge)), judge.name, identity(own))


def _whole(row: dict[str, Any]) -> bool:
    return None not in row["score"] and None not in (row["oppose"] or ())


def _table(rows: Sequence[Sequence[float | None]]) -> Float[np.ndarray, "n 10"]:
    return np.array(rows, dtype=float).reshape(-1, len(VALUES))
