"""BLiMP (Warstadt et al., 2020): minimal pairs `sentence_good`, `sentence_bad`, one JSON-lines file per paradigm."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from neva_tl.core.errors import InputError
from neva_tl.evaluation.benchmarks.items import Benchmark, Item
from neva_tl.evaluation.benchmarks.multiple_choice import text
from neva_tl.prompts.text_files import bad_rows, complain, counted, json_object


def read_blimp(path: str | Path, name: str = "blimp", *, skip_bad: bool = False) -> Benchmark:
    """Read the archive as it is published, a folder of its files, or one paradigm. A paradigm is one cluster.

    Args:
        path: a .zip, a folder or a .jsonl file; `__MACOSX` and hidden files are passed over.
        skip_bad: leave malformed rows out and say how many; they stop the reading else.

    Raises:
        InputError: nothing there, or a malformed row (file and line are named).
    """
    place, bad = Path(path).expanduser(), bad_rows(skip_bad)
    if not place.exists():
        raise InputError(f"{place} does not exist: BLiMP's zip or a folder of its .jsonl is expected there")
    items = []
    for file, stem, raw in _files(place):
        try:
            lines = raw.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: not UTF-8 text ({error.reason})") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                items.append(_item(line, stem, number))
            except InputError as error:
                complain(f"{file}, line {number}: {error}", bad)
    return Benchmark(name, "pair", tuple(items), skipped=counted(name, bad))


def _files(place: Path) -> Iterator[tuple[str, str, bytes]]:
    """The paradigms: how complaints name the file, its stem, its content; in order of their names."""
    if place.is_file() and place.suffix == ".zip":
        try:
            with zipfile.ZipFile(place) as archive:
                for entry in sorted(archive.namelist()):
                    if entry.endswith(".jsonl") and not _hidden(Path(entry)):
                        yield f"{place}/{entry}", Path(entry).stem, archive.read(entry)
        except zipfile.BadZipFile as error:
            raise InputError(f"{place} is no readable zip ({error}): fetch it again") from error
        return
    for file in sorted(place.rglob("*.jsonl")) if place.is_dir() else [place]:
        if not _hidden(file.relative_to(place) if place.is_dir() else Path(file.name)):
            yield str(file), file.stem, file.read_bytes()


def _hidden(path: Path) -> bool:
    return any(part == "__MACOSX" or part.startswith(".") for part in path.parts)


def _item(line: str, stem: str, number: int) -> Item:
    row = json_object(line)
    sentences = (text(row, "sentence_good"), text(row, "sentence_bad"))
    return Item(f"{stem}/{number}", str(row.get("UID") or stem), ("", ""), sentences)
