"""Readers of rows from text files; their errors name the file and the line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.files import parse_json


def existing_file(path: str | Path, what: str) -> Path:
    """Return the path after checking that it is a non-empty file.

    Args:
        path: Path of the file; `~` is expanded.
        what: Expected content, for messages.

    Raises:
        InputError: The path is missing, is a folder, or the file is empty.
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
    """Return the path after checking that it is a folder.

    Args:
        path: Path of the folder; `~` is expanded.
        what: Expected content, for messages.

    Raises:
        InputError: The path is missing or is a file.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"{path} does not exist: a folder with {what} is expected there")
    if not path.is_dir():
        raise InputError(f"{path} is a file: a folder with {what} is expected there")
    return path


def complain(text: str, bad: list[str] | None) -> None:
    """Raise an error about one row, or append it to the caller's list.

    Args:
        text: Message, with file and line.
        bad: See `bad_rows`.

    Raises:
        InputError: `bad` is None.
    """
    if bad is None:
        raise InputError(text)
    bad.append(text)


def bad_rows(skip_bad: bool) -> list[str] | None:
    """Return a list for messages about malformed rows; None makes readers raise the first error.

    Args:
        skip_bad: Whether to skip malformed rows.
    """
    return [] if skip_bad else None


def dropped(count: int, total: int, rows: str, reason: str) -> str:
    """Return the sentence about rows that a reader leaves out, for the `note` of its result; empty for none.

    Args:
        count: Number of rows left out.
        total: Number of rows in the source.
        rows: Name of the rows, in the plural.
        reason: Reason.
    """
    return f"{count:,} of {total:,} {rows} left out: {reason}." if count else ""


def joined_notes(*notes: str) -> str:
    """Join the sentences of a note; empty ones are skipped.

    Args:
        *notes: Sentences.
    """
    return " ".join(note for note in notes if note)


def counted(name: str, bad: Sequence[str] | None, good: int) -> str:
    """Return the note about skipped malformed rows; empty for none.

    Args:
        name: Name of the file or data set.
        bad: See `bad_rows`.
        good: Number of well-formed rows.
    """
    if not bad:
        return ""
    return f"{name}: {len(bad):,} malformed rows left out of {len(bad) + good:,}, the first: {bad[0]}"


def line_count(path: Path) -> int:
    """Count the lines of a file that are not blank, without decoding them.

    Args:
        path: The file.
    """
    with path.open("rb") as file:
        return sum(bool(line.strip()) for line in file)


def read_table(
    path: Path, required: Sequence[str], *, delimiter: str = ",", quoted: bool = True, bad: list[str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a delimited file with a header.

    Args:
        path: File in UTF-8, with or without a byte-order mark.
        required: Columns that the header must have; the rows contain all columns.
        delimiter: Separator of fields.
        quoted: Whether `"` quotes fields, as in CSV; ValueEval's TSV has unquoted quotation marks in its texts.
        bad: List that receives messages about malformed rows, which are then skipped; None raises the first error.

    Yields:
        (line on which the row ends, column -> text).

    Raises:
        InputError: The file is not UTF-8, lacks a column or all rows, or a row has too few or too many fields.
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
                        f"{path}, line 1: no column {column!r}: the header has {', '.join(header)[:200] or 'nothing'}"
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
    """Yield the objects of a JSON-lines file; blank lines are skipped.

    Args:
        path: File in UTF-8, with or without a byte-order mark.
        required: Keys that every object must have.
        bad: See `read_table`.

    Yields:
        (line, object).

    Raises:
        InputError: The file is not UTF-8 or has no object, or a line is not a JSON object with the keys.
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
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if not count:
        raise InputError(f"{path} holds no JSON objects")


def json_object(text: str, required: Sequence[str] = ()) -> dict[str, Any]:
    """Parse a line of JSON as an object.

    Args:
        text: The line.
        required: Keys that the object must have.

    Raises:
        InputError: The text is not JSON, is not an object, or lacks a key; the caller adds file and line.
    """
    row = parse_json(text)
    if not isinstance(row, dict):
        raise InputError(f"a JSON object is expected, not {type(row).__name__}")
    for key in required:
        if key not in row:
            raise InputError(f"no key {key!r}")
    return row
