"""Append-only file of the answers of a person who labels texts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.theories.schwartz import SCHWARTZ


class Answers:
    """Answers of one annotator in an append-only JSON-lines file.

    The first line describes the sample. Each answer is on disk before `put` returns. Of several answers to one question, the last
    one counts.

    Args:
        path: The file. Created with its folder where it is missing.
        about: Description of the sample, written to the first line and compared with an existing one.

    Attributes:
        path: The file.
        found: (item key, 0 or 1 for a repeated question) -> labels per value.

    Raises:
        InputError: The file is damaged, or belongs to another sample.
    """

    def __init__(self, path: str | Path, about: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.found: dict[tuple[str, int], dict[str, int | None]] = {}
        if not self.path.exists():
            self._append({"kind": "sample", **about})
            return
        self._cut_torn_line()
        lines = self.path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            self._read(number, line, about)
        if not lines:
            self._append({"kind": "sample", **about})

    @staticmethod
    def about(path: str | Path) -> dict[str, Any] | None:
        """Return the description of the sample in an answers file, None without one.

        Args:
            path: The file.
        """
        path = Path(path)
        first = path.read_text(encoding="utf-8").split("\n", 1)[0] if path.exists() else ""
        try:
            row = json.loads(first)
        except json.JSONDecodeError:
            return None
        return {k: x for k, x in row.items() if k != "kind"} if isinstance(row, dict) else None

    def put(self, key: str, again: int, labels: Mapping[str, int | None], time: str) -> None:
        """Store an answer.

        Args:
            key: Key of the item.
            again: 1 for a repeated question, else 0.
            labels: 1, 0 or None for each value.
            time: Time of the answer.
        """
        self.found[key, again] = dict(labels)
        self._append({"kind": "answer", "item": key, "again": again, "labels": dict(labels), "at": time})

    def _append(self, row: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _cut_torn_line(self) -> None:
        """Remove a last line that a killed process left incomplete."""
        data = self.path.read_bytes()
        if data and not data.endswith(b"\n"):
            with self.path.open("r+b") as file:
                file.truncate(data.rfind(b"\n") + 1)

    def _read(self, number: int, line: str, about: Mapping[str, Any]) -> None:
        where = f"{self.path}, line {number}"
        try:
            row = json.loads(line)
            if number == 1:
                existing = {k: x for k, x in row.items() if k != "kind"}
                if existing != dict(about):
                    raise InputError(
                        f"{self.path} holds answers to another sample ({_changed(existing, about)}): use another --annotator, "
                        "or the same --n, --seed and run"
                    )
                return
            labels = {name: row["labels"][name] for name in SCHWARTZ.names}
            if any(x not in (0, 1, None) for x in labels.values()):
                raise InputError(f"{where}: a label is 0, 1 or null")
            self.found[str(row["item"]), int(row["again"])] = labels
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{where} is not an answer ({type(error).__name__}): fix or remove that line") from error


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} was {before.get(name)!r}, now {now.get(name)!r}" for name in names)
