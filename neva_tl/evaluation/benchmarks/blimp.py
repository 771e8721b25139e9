"""Reader of BLiMP (Warstadt et al., 2020).

Minimal pairs with the keys `sentence_good` and `sentence_bad`, one JSON-lines file per paradigm.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from neva_tl.core.errors import InputError
from neva_tl.evaluation.benchmarks.items import Benchmark, Item, text_field
from neva_tl.prompts.text_files import bad_rows, complain, counted, json_object


def read_blimp(path: str | Path, name: str = "blimp", *, skip_bad: bool = False) -> Benchmark:
    """Read the published archive, a folder of its files, or one paradigm.

    The items of a paradigm form one cluster.

    Args:
        path: A .zip file, a folder or a .jsonl file. `__MACOSX` and hidden files are skipped.
        name: Name of the set.
        skip_bad: Leave malformed rows out and count them in `note`. The first malformed row raises otherwise.

    Raises:
        InputError: The path is missing or empty, or a row is malformed (the message names file and line).
    """
    source, bad = Path(path).expanduser(), bad_rows(skip_bad)
    if not source.exists():
        raise InputError(f"{source} does not exist: BLiMP's zip file or a folder of its .jsonl files is expected there")
    items = []
    for label, stem, raw in _files(source):
        try:
            lines = raw.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{label}: not UTF-8 text ({error.reason})") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                items.append(_item(line, stem, number))
            except InputError as error:
                complain(f"{label}, line {number}: {error}", bad)
    return Benchmark(
        name, "pair", tuple(items), skipped=len(bad or ()), note=counted(name, bad, len(items)), source=str(source)
    )


def _files(source: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield each paradigm, sorted by name: label for messages, file stem, content."""
    if source.is_file() and source.suffix == ".zip":
        try:
            with zipfile.ZipFile(source) as archive:
                for entry in sorted(archive.namelist()):
                    if entry.endswith(".jsonl") and not _hidden(Path(entry)):
                        yield f"{source}/{entry}", Path(entry).stem, archive.read(entry)
        except zipfile.BadZipFile as error:
            raise InputError(f"{source} is not a readable zip file ({error}): download it again") from error
        return
    for file in sorted(source.rglob("*.jsonl")) if source.is_dir() else [source]:
        if not _hidden(file.relative_to(source) if source.is_dir() else Path(file.name)):
            yield str(file), file.stem, file.read_bytes()


def _hidden(path: Path) -> bool:
    return any(name == "__MACOSX" or name.startswith(".") for name in path.parts)


def _item(line: str, stem: str, number: int) -> Item:
    row = json_object(line)
    sentences = (text_field(row, "sentence_good"), text_field(row, "sentence_bad"))
    return Item(f"{stem}/{number}", str(row.get("UID") or stem), ("", ""), sentences)
