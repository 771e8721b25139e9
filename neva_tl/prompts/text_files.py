"""Reading rows from text files, so that every complaint can name the file and the line."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError


def existing_file(path: str | Path, what: str) -> Path:
    """The path, once it is known to be a file with something in it.

    Raises:
        InputError: missing, a folder, or empty.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"{path} does not exist: {what} is expected there")
    if not path.is_file():
        raise InputError(f"{path} is a folder: {what} is expected there")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty: {what} is expected there")
    return path


def existing_folder(path: str | Path, what: str) -> Path:
    """The path, once it is known to be a folder.

    Raises:
        InputError: missing, or a file.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"{path} does not exist: a folder with {what} is expected there")
    if not path.is_dir():
        raise InputError(f"{path} is a file: a folder with {what} is expected there")
    return path


def complain(text: str, bad: list[str] | None) -> None:
    """Raise a complaint about one row, or put it down and go on where the caller keeps a list of them.

    Raises:
        InputError: there is no list.
    """
    if bad is None:
        raise InputError(text)
    bad.append(text)


def bad_rows(skip_bad: bool) -> list[str] | None:
    """The list that readers put complaints on; None makes them stop at the first."""
    return [] if skip_bad else None


def counted(name: str, bad: Sequence[str] | None) -> int:
    """How many rows were left out, said on stderr."""
    if bad:
        print(f"{name}: {len(bad)} malformed rows left out, the first: {bad[0]}", file=sys.stderr)
    return len(bad or ())


def read_table(
    path: Path, required: Sequence[str], *, delimiter: str = ",", quoted: bool = True, bad: list[str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a delimited file with a header: (line on which the row ends, column -> text).

    Args:
        path: UTF-8, with or without a byte-order mark.
        required: columns that must be in the header; others are passed on.
        quoted: whether `"` quotes fields, as in CSV; ValueEval's TSV has bare quotation marks in its texts.
        bad: complaints about single rows are put here and the rows left out; without it the first one is raised.

    Raises:
        InputError: not UTF-8, a column missing, a row with too few or too many fields, or no row at all.
    """
    line = 1
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(
            file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=quoted
        )
        try:
            header = [name.strip() for name in next(reader, [])]
            for column in required:
                if column not in header:
                    raise InputError(
                        f"{path}, line 1: no column {column!r}: the header has {', '.join(header) or 'nothing'}"
                    )
            rows = 0
            for fields in reader:
                line = reader.line_num
                if not any(field.strip() for field in fields):
                    continue
                if len(fields) != len(header):
                    complain(f"{path}, line {line}: {len(fields)} fields where the header has {len(header)}", bad)
                    continue
                rows += 1
                yield line, dict(zip(header, fields, strict=True))
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 text after line {line} ({error.reason}): save it as UTF-8") from error
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: {error}") from error
    if not rows:
        raise InputError(f"{path} has a header and no rows")


def read_jsonl(
    path: Path, required: Sequence[str], *, bad: list[str] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a JSON-lines file: (line, object); blank lines are skipped. `bad` as in `read_table`.

    Raises:
        InputError: not UTF-8, not JSON, not an object, a key missing, or no object at all.
    """
    count = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                try:
                    row = json_object(text, required)
                except InputError as error:
                    complain(f"{path}, line {line}: {error}", bad)
                    continue
                count += 1
                yield line, row
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}): save it as UTF-8") from error
    if not count:
        raise InputError(f"{path} holds no JSON objects")


def json_object(text: str, required: Sequence[str] = ()) -> dict[str, Any]:
    """The object on a line of JSON.

    Raises:
        InputError: not JSON, not an object, or a key missing; the caller knows the place.
    """
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON ({error.msg})") from error
    if not isinstance(row, dict):
        raise InputError(f"a JSON object is expected, not {type(row).__name__}")
    for key in required:
        if key not in row:
            raise InputError(f"no key {key!r}")
    return row
