"""Selection of a reader from the content of a file, and the sets of a data folder."""

from __future__ import annotations

import json
from pathlib import Path

from neva_tl.core.errors import InputError
from neva_tl.evaluation.benchmarks.blimp import read_blimp
from neva_tl.evaluation.benchmarks.items import Benchmark
from neva_tl.evaluation.benchmarks.lambada import read_lambada
from neva_tl.evaluation.benchmarks.mmlu import read_mmlu
from neva_tl.evaluation.benchmarks.multiple_choice import read_multiple_choice
from neva_tl.evaluation.benchmarks.plain_text import read_plain_text
from neva_tl.prompts.text_files import existing_file, existing_folder

#: Locations of the sets in a data folder: name -> patterns. MMLU is listed in both forms.
LAYOUT = {
    "blimp": ("blimp/*.zip", "blimp/*.jsonl"),
    "lambada": ("lambada/*.jsonl",),
    "mmlu": ("mmlu/test/*.csv", "mmlu/*.csv"),
    "tinystories": ("tinystories/*.json",),
}


def read_benchmarks(spec: str, *, skip_bad: bool = False) -> list[Benchmark]:
    """Read `NAME=PATH` (or a path): one set, or both forms of MMLU.

    The content of the file selects the reader. The names `mmlu_letters` and `mmlu_cloze` select one form of MMLU.

    Args:
        spec: `NAME=PATH`, or a path alone.
        skip_bad: Leave malformed rows out and count them in `note`. The first malformed row raises otherwise.

    Raises:
        InputError: The spec is malformed, the path is missing, its format is unknown, or a row is malformed.
    """
    name, equals, where = spec.partition("=")
    if not equals:
        name, where = "", spec
    if equals and not (name and where):
        raise InputError(f"--set takes NAME=PATH, not {spec!r}")
    path = Path(where).expanduser()
    if not path.exists():
        raise InputError(f"{path} does not exist: a public set is expected there (--set {name or 'NAME'}=PATH)")
    if path.suffix == ".csv" or (path.is_dir() and any(path.glob("*.csv"))):
        return _read_mmlu_forms(path, name, skip_bad)
    if path.suffix == ".zip" or path.is_dir():
        return [read_blimp(path, name or "blimp", skip_bad=skip_bad)]
    if path.suffix in (".json", ".txt"):
        return [read_plain_text(path, name, skip_bad=skip_bad)]
    return [_read_json_lines(path, name, skip_bad)]


def _read_mmlu_forms(path: Path, name: str, skip_bad: bool) -> list[Benchmark]:
    """Read the form of MMLU that the name ends with, or both forms."""
    base, _, form = (name or "mmlu").rpartition("_") if name.endswith(("_letters", "_cloze")) else (name, "", "")
    forms = [form] if form else ["letters", "cloze"]
    return [read_mmlu(path, base or "mmlu", form=one, skip_bad=skip_bad) for one in forms]  # type: ignore[arg-type]


def _read_json_lines(path: Path, name: str, skip_bad: bool) -> Benchmark:
    """Read a JSON-lines file with the reader that the keys of its first row select.

    Raises:
        InputError: The format is unknown, or a row is malformed.
    """
    keys = _first_keys(path)
    if "sentence_good" in keys:
        return read_blimp(path, name or path.stem, skip_bad=skip_bad)
    if {"choices", "query"} <= keys or "context_options" in keys:
        return read_multiple_choice(path, name, skip_bad=skip_bad)
    if {"context", "continuation"} <= keys:
        return read_lambada(path, name, skip_bad=skip_bad)
    raise InputError(
        f"{path}: no known public set: its first row should have query, choices and gold, or context and continuation, or "
        "sentence_good and sentence_bad"
    )


def data_sets(folder: str | Path, names: tuple[str, ...] = ()) -> list[str]:
    """List the sets of a data folder as specs for `read_benchmarks`.

    The sets are those of `blimp/`, `lambada/`, `mmlu/`, `multiple_choice/` and `tinystories/` that exist.

    Args:
        folder: The data folder.
        names: The sets to list (`mmlu_cloze` for one form of MMLU). An empty tuple lists all.

    Raises:
        InputError: The folder is missing, contains none of the sets, or lacks a requested one.
    """
    root = existing_folder(folder, "public sets")
    paths: dict[str, Path] = {}
    for name, patterns in LAYOUT.items():
        hits = [hit for pattern in patterns for hit in sorted(root.glob(pattern))]
        if hits:  # a set in many files is its folder
            paths[name] = hits[0].parent if name == "mmlu" or (name, hits[0].suffix) == ("blimp", ".jsonl") else hits[0]
    paths |= {file.stem: file for file in sorted(root.glob("multiple_choice/*.jsonl"))}
    if not paths:
        raise InputError(f"{root} holds none of {', '.join(LAYOUT)} or multiple_choice/*.jsonl")
    if "mmlu" in paths:
        paths |= {f"mmlu_{form}": paths["mmlu"] for form in ("letters", "cloze")}
    requested = names or tuple(name for name in paths if not name.startswith("mmlu_"))
    missing = [name for name in requested if name not in paths]
    if missing:
        raise InputError(f"{root} holds no set {missing[0]!r}: it has {', '.join(paths)}")
    return [f"{name}={paths[name]}" for name in requested]


def _first_keys(path: Path) -> set[str]:
    """Return the keys of the first row of a JSON-lines file.

    The set is empty where the row is not an object: the reader reports the error.
    """
    with existing_file(path, "a public set").open(encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    continue  # the next row shows the format, and the reader reports the broken one
                return set(row) if isinstance(row, dict) else set()
    return set()
