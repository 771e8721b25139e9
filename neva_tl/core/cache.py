"""A persistent cache of JSON values in one SQLite file, which survives `kill -9` and may be shared by processes.

Paid results (a request to an endpoint) and slow ones (a generation) are written at once, so that a resumed run repeats none.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError

#: Keys per query; SQLite allows at least 999 parameters.
_CHUNK = 500


def content_key(*parts: Any) -> str:
    """Compute the sha256 of plain data as canonical JSON: equal content gives an equal key.

    Args:
        *parts: Plain data that together identify a value.

    Returns:
        64 hexadecimal digits.

    Raises:
        TypeError: A part is not plain data.
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class JsonCache:
    """A mapping from keys to JSON values in an SQLite file, or in memory.

    Every write is committed before `put` returns.

    Args:
        path: File, created with its folder when missing; None keeps the cache in memory.

    Raises:
        InputError: The file is not a cache, or cannot be opened.
    """

    def __init__(self, path: str | Path | None) -> None:
        self.path = None if path is None else Path(path).expanduser()
        try:
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                ":memory:" if self.path is None else self.path, timeout=60, check_same_thread=False
            )
            if self.path is not None:
                self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
            self._db.execute("SELECT key, value FROM kept LIMIT 1")
            self._db.commit()
        except (sqlite3.Error, OSError) as error:
            raise InputError(f"{path} cannot be used as a cache ({error}): name another file, or remove it") from error

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the stored values of several keys.

        Args:
            keys: Keys to look up; repeated ones count once.

        Returns:
            Key -> value of the cache hits.
        """
        requested = list(dict.fromkeys(keys))
        values: dict[str, Any] = {}
        for start in range(0, len(requested), _CHUNK):
            chunk = requested[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            try:
                rows = self._db.execute(f"SELECT key, value FROM kept WHERE key IN ({marks})", chunk).fetchall()
                values |= {key: json.loads(value) for key, value in rows}
            except (sqlite3.Error, ValueError, TypeError, RecursionError) as error:
                raise self._damaged(error) from error
        return values

    def get(self, key: str) -> Any | None:
        """Return the value of one key, or None.

        Args:
            key: Key to look up.
        """
        return self.get_many([key]).get(key)

    def put_many(self, items: Mapping[str, Any]) -> None:
        """Store several values in one transaction: all, or none when the process dies.

        Args:
            items: Key -> plain data; values of existing keys are replaced.
        """
        rows = [(key, json.dumps(value, ensure_ascii=False, allow_nan=False)) for key, value in items.items()]
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO kept values (?, ?)", rows)
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def put(self, key: str, value: Any) -> None:
        """Store one value.

        Args:
            key: Key; an existing value is replaced.
            value: Plain data.
        """
        self.put_many({key: value})

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM kept").fetchone()[0])

    def _damaged(self, error: Exception) -> InputError:
        return InputError(f"the cache {self.path or 'in memory'} is damaged or cannot be written ({error}): remove it")

    def close(self) -> None:
        """Close the file."""
        self._db.close()
