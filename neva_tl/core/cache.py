"""A small persistent cache: key -> JSON, in one SQLite file that survives `kill -9` and may be shared by processes.

What is paid for (a question to an endpoint) or slow (a generation) is written as soon as it is known, so that a killed
run asks nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError

#: Keys in one query: SQLite allows at least 999 parameters.
_CHUNK = 500


def content_key(*parts: Any) -> str:
    """sha256 of the parts as canonical JSON: equal content, equal key.

    Raises:
        TypeError: a part is not plain data.
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class JsonCache:
    """Keys with JSON values in an SQLite file; `JsonCache(None)` lives in memory.

    Every write is committed before `put` returns.

    Raises:
        InputError: the file is no cache, or cannot be opened.
    """

    def __init__(self, path: str | Path | None) -> None:
        self.path = None if path is None else Path(path).expanduser()
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(
                ":memory:" if self.path is None else self.path, timeout=60, check_same_thread=False
            )
            if self.path is not None:
                self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
            self._db.commit()
        except sqlite3.Error as error:
            raise InputError(f"{path} cannot be used as a cache ({error}): name another file, or remove it") from error

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """What is known of these keys."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Any] = {}
        for place in range(0, len(wanted), _CHUNK):
            some = wanted[place : place + _CHUNK]
            marks = ",".join("?" * len(some))
            rows = self._db.execute(f"SELECT key, value FROM kept WHERE key IN ({marks})", some)
            found |= {key: json.loads(value) for key, value in rows}
        return found

    def get(self, key: str) -> Any | None:
        """The value of one key, or None."""
        return self.get_many([key]).get(key)

    def put_many(self, items: Mapping[str, Any]) -> None:
        """Keep all of these, or none where the process dies meanwhile."""
        rows = [(key, json.dumps(value, ensure_ascii=False, allow_nan=False)) for key, value in items.items()]
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?)", rows)

    def put(self, key: str, value: Any) -> None:
        """Keep one value."""
        self.put_many({key: value})

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM kept").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()
