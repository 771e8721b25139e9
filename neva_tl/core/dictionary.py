"""The data dictionary: meaning and unit of every column that a run and its analyses write.

`dictionary.toml` holds the text; its head says how to write an entry. The documentation site prints it, and the tests compare
it with the tables that studies and analyses write.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

#: Placeholder in the name of a column that exists once a value.
PLACEHOLDER = "{value}"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name; with `{value}` where there is one a value.
        unit: Its unit.
        meaning: Its meaning.
        optional: Whether some runs lack it.
    """

    name: str
    unit: str
    meaning: str
    optional: bool

    def matches(self, name: str) -> bool:
        """Return whether a table's column is this one.

        Args:
            name: Name of the table's column.
        """
        return name == self.name or (
            PLACEHOLDER in self.name and fnmatchcase(name, self.name.replace(PLACEHOLDER, "?*"))
        )


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: Its file in `tables/` without ending, or its path in the run folder where it has another folder.
        about: Its content, and what a row is.
        made_by: The command that writes it.
        columns: Its columns, in order.
    """

    name: str
    about: str
    made_by: str
    columns: tuple[Column, ...]

    def differences(self, columns: Iterable[str]) -> list[str]:
        """Return how the columns of a written table differ from the dictionary, one line each.

        Args:
            columns: Names of the written table's columns.
        """
        written = list(columns)
        extra = [name for name in written if not any(column.matches(name) for column in self.columns)]
        absent = [
            column.name
            for column in self.columns
            if not column.optional and not any(column.matches(name) for name in written)
        ]
        return [
            *(f"{self.name}: the column {name!r} is not in the dictionary" for name in extra),
            *(f"{self.name}: the dictionary's column {name!r} was not written" for name in absent),
        ]


@functools.cache
def _data() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def units() -> dict[str, str]:
    """Return unit -> meaning."""
    return dict(_data()["units"])


def files() -> list[tuple[str, str]]:
    """Return path and content of every file of a run folder, the paths as patterns."""
    return [(entry["path"], entry["about"]) for entry in _data()["files"]]


def keys(file: str) -> dict[str, str]:
    """Return key -> meaning of a JSON file of a run folder; `*` stands for all others.

    Args:
        file: `results.json` or `manifest.json`.
    """
    return dict(_data()["json"][file])


@functools.cache
def tables() -> Mapping[str, Table]:
    """Return name -> table, in the order of the dictionary."""
    shared: dict[str, str] = _data()["columns"]
    entries: dict[str, dict[str, Any]] = _data()["tables"]
    result = {}
    for name, entry in entries.items():
        source = entries[entry["like"]] if "like" in entry else entry
        meanings = {**shared, **source.get("means", {})}
        columns = [
            column
            for token in source["columns"].split()
            for column in _columns(token, meanings, source.get("estimate", ""), name)
        ]
        result[name] = Table(name, entry["about"], entry["made_by"], tuple(columns))
    return result


def _columns(token: str, meanings: Mapping[str, str], estimate: str, table: str) -> list[Column]:
    """Return the columns of one token of a table's list: `gain`, `gain+` (with its interval), `gain?` (optional)."""
    optional = token.endswith("?")
    stem = token.removesuffix("?")
    name = stem.removesuffix("+")
    if name not in meanings:
        raise ValueError(f"dictionary.toml: the column {name!r} of {table} has no meaning")
    unit, meaning = (part.strip() for part in meanings[name].split("|", 1))
    if name in ("lo", "hi") and estimate:
        unit, meaning = meanings[estimate].split("|", 1)[0].strip(), meaning.replace("the estimate's", f"{estimate}'s")
    columns = [Column(name, unit, meaning, optional)]
    if stem.endswith("+"):
        for suffix, end in (("lo", "lower"), ("hi", "upper")):
            columns.append(Column(f"{name}_{suffix}", unit, f"{end} end of the 95 % interval of {name}", optional))
    return columns
