"""Provenance of generated prompts in a second file: model, judge, settings and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write, read_json, to_json
from neva_tl.core.theories import ValueTheory

#: Ending of the file's name, after the full name of the prompts' file.
ENDING = ".provenance.json"


def provenance_path(path: Path) -> Path:
    """Return the path of the file that describes a file of prompts.

    Args:
        path: The prompts' file.
    """
    return path.with_name(path.name + ENDING)


def write(path: Path, record: Mapping[str, Any], theory: Mapping[str, Any], rows: str) -> Path:
    """Write the provenance of a file of prompts to a second file.

    Args:
        path: The prompts' file.
        record: How the prompts were made, as plain data.
        theory: Record of the values' theory (see `theory_record`), whose definitions the prompts' file does not hold.
        rows: Hash of the rows that the record describes.

    Returns:
        The written file.
    """
    content = {"schema": 1, "rows": rows, **theory, "provenance": record}
    target = provenance_path(path)
    with atomic_write(target) as file:
        file.write_text(json.dumps(to_json(content), ensure_ascii=False, indent=1), encoding="utf-8")
    return target


def read(path: Path, rows: str) -> tuple[dict[str, Any], ValueTheory | None]:
    """Read the provenance of a file of prompts and the theory of their values.

    Args:
        path: The prompts' file.
        rows: Hash of its rows; a record of other rows is ignored, because the file was changed since.

    Returns:
        The record, and the theory (None where the values' names imply it); empty and None without a record of these rows.

    Raises:
        InputError: The second file is not a provenance.
    """
    file = provenance_path(path)
    if not file.is_file():
        return {}, None
    content = read_json(file, "the provenance of prompts")
    if content.get("rows") != rows:
        return {}, None
    record = content.get("provenance")
    if not isinstance(record, dict):
        raise InputError(f"{file} is not the provenance of prompts: remove it, or write the prompts again")
    theory = content.get("theory")
    return record, None if theory is None else ValueTheory.from_json(theory, str(file))
