"""A run folder against the data dictionary."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path

import pyarrow.parquet as pq

from neva_tl.core import dictionary

HOW = "describe it in neva_tl/core/dictionary.toml"


def table_name(path: Path, root: Path) -> str:
    """The name in the dictionary of a parquet file of a run folder."""
    relative = path.relative_to(root)
    if relative.parts[0] == "tables":
        return path.stem
    if relative.parts[0] == "cells":
        texts = (
            path.name.endswith(".texts.parquet") or relative.parts[1] == "texts"
        )  # examples where the judge reads none
        return "cells/*.texts" if texts else "cells/*.items"
    return relative.with_suffix("").as_posix()


def columns_of(path: Path) -> list[str]:
    """Names of the columns of a parquet file."""
    return [name for name in pq.read_schema(path).names if not name.startswith("__index")]


def check_dictionary(root: Path) -> int:
    """Check that every table, column, file and key of a run folder is in the dictionary, and the reverse for columns.

    Returns:
        The number of tables.
    """
    tables, count = dictionary.tables(), 0
    for path in sorted(root.rglob("*.parquet")):
        name = table_name(path, root)
        if name == "prompts":  # a contrast set has the columns of its own file
            continue
        assert name in tables, f"the table {name} is not in the dictionary: {HOW}"
        assert not tables[name].differences(columns_of(path)), HOW
        count += 1
    patterns = [pattern for pattern, _ in dictionary.files()]
    files = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    unknown = [file for file in files if not any(fnmatchcase(file, pattern) for pattern in patterns)]
    assert not unknown, f"{unknown} are not in the dictionary: {HOW}"
    for file in ("results.json", "manifest.json"):
        described = dictionary.keys(file)
        assert set(described) - {"*", "controls", "source"} <= set(
            json.loads((root / file).read_text(encoding="utf-8"))
        )
    return count
