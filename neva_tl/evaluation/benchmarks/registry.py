"""Which reader a file needs, told from what is in it; and the sets of a data folder."""

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

#: Where the sets of a data folder lie: name -> pattern. MMLU is there in both forms.
LAYOUT = {
    "blimp": ("blimp/*.zip", "blimp/*.jsonl"),
    "lambada": ("lambada/*.jsonl",),
    "mmlu": ("mmlu/test/*.csv", "mmlu/*.csv"),
    "tinystories": ("tinystories/*.json",),
}


def read_benchmarks(spec: str, *, skip_bad: bool = False) -> list[Benchmark]:
    """Read `NAME=PATH` (or a path): one set, or both forms of MMLU.

    What is in the file decides how it is read. The names `mmlu_letters` and `mmlu_cloze` ask for one form of MMLU.

    Raises:
        InputError: nothing there, an unknown format, or a malformed row.
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
        base, _, form = (name or "mmlu").rpartition("_") if name.endswith(("_letters", "_cloze")) else (name, "", "")
        wanted = [form] if form else ["letters", "cloze"]
        return [read_mmlu(path, base or "mmlu", form=one, skip_bad=skip_bad) for one in wanted]  # type: ignore[arg-type]
    if path.suffix == ".zip" or path.is_dir():
        return [read_blimp(path, name or "blimp", skip_bad=skip_bad)]
    if path.suffix in (".json", ".txt"):
        return [read_plain_text(path, name, skip_bad=skip_bad)]
    keys = _keys(path)
    if "sentence_good" in keys:
        return [read_blimp(path, name or path.stem, skip_bad=skip_bad)]
    if {"choices", "query"} <= keys or "context_options" in keys:
        return [read_multiple_choice(path, name, skip_bad=skip_bad)]
    if {"context", "continuation"} <= keys:
        return [read_lambada(path, name, skip_bad=skip_bad)]
    raise InputError(
        f"{path}: no known public set: its first row should have query, choices and gold, or context and continuation, or "
        "sentence_good and sentence_bad"
    )


def data_sets(folder: str | Path, names: tuple[str, ...] = ()) -> list[str]:
    """The sets of a data folder as specs for `read_benchmarks`: `blimp/`, `lambada/`, `mmlu/`, `multiple_choice/`,
    `tinystories/`, as far as they are there.

    Args:
        names: only these (`mmlu_cloze` for one form of MMLU); empty takes all.

    Raises:
        InputError: no folder, none of the sets in it, or one that was asked for is not there.
    """
    root = existing_folder(folder, "public sets")
    found: dict[str, Path] = {}
    for name, patterns in LAYOUT.items():
        hits = [hit for pattern in patterns for hit in sorted(root.glob(pattern))]
        if hits:  # of sets in many files, the folder
            found[name] = hits[0].parent if name == "mmlu" or (name, hits[0].suffix) == ("blimp", ".jsonl") else hits[0]
    found |= {file.stem: file for file in sorted(root.glob("multiple_choice/*.jsonl"))}
    if not found:
        raise InputError(f"{root} holds none of {', '.join(LAYOUT)} or multiple_choice/*.jsonl")
    if "mmlu" in found:
        found |= {f"mmlu_{form}": found["mmlu"] for form in ("letters", "cloze")}
    wanted = names or tuple(name for name in found if not name.startswith("mmlu_"))
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(f"{root} holds no set {missing[0]!r}: it has {', '.join(found)}")
    return [f"{name}={found[name]}" for name in wanted]


def _keys(path: Path) -> set[str]:
    """Keys of the first row of a JSON-lines file; nothing where it is no object (the readers say what is wrong)."""
    with existing_file(path, "a public set").open(encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    continue  # a broken first row: the next one tells the format, and the reader names the broken one
                return set(row) if isinstance(row, dict) else set()
    return set()
