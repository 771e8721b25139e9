"""List, set aside or restore the changed files of a run folder.

A changed file is renamed, never deleted. The commands that compute a run's files find it missing and compute it again.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.core.files import ENDING, atomic_write
from neva_tl.core.ledger import LEDGER, Ledger, State
from neva_tl.core.locks import is_lock
from neva_tl.core.messages import notice

#: Suffix of a file that was set aside.
ASIDE = ".bad"
#: Folders and files that the commands of this package write into a run folder.
WRITTEN = (
    *("cells", "stats", "neurons", "circuits", "tables", "figures"),
    *("manifest.json", "results.json", "gate.safetensors", "report.html"),
)
#: Folder with a person's labels, which no command can make again.
LABELS = "annotations"
#: Files that check themselves: databases, checkpoints of a collection, answers of a person.
SELF_CHECKED = re.compile(r".*\.sqlite(-\w+)?|stats/state\.\d+of\d+\.safetensors|annotations/[^/.]+\.jsonl")
#: Ending of a file -> ending of the file whose presence marks both as complete.
MARKERS = {".items.parquet": ".json", ".texts.parquet": ".json", ".safetensors": ".json"}
#: Pattern of a file's name -> the file whose presence marks both as complete.
OTHER_MARKERS = {
    r"tables/(leakage_corrected|csr_corrected|judge_mixing)\.\w+": "correction.json",
    r"circuits/\w+\.json": "tables/circuit.parquet",
}


def verify(root: str | Path) -> pd.DataFrame:
    """Compare every file of a run folder with the ledger.

    Args:
        root: The run folder.

    Returns:
        `file`, `state` (`good`, `changed`, `missing`, or `unknown`: not in the ledger) and `reason`, one row per file.

    Raises:
        InputError: The folder is not a run folder.
    """
    root = Path(root)
    if not (root / LEDGER).is_file() and not (root / "manifest.json").is_file():
        raise InputError(f"{root} is not a run folder: name one that `neva-tl run --out` wrote")
    ledger = Ledger(root.absolute())
    states: dict[str, State] = {name: ledger.state(name) for name in ledger.names()}
    states |= {name: "unknown" for name in _files(root) if name not in states}
    reasons = {name: ledger.reason(name) if state == "changed" else "" for name, state in states.items()}
    rows = [{"file": name, "state": states[name], "reason": reasons[name]} for name in sorted(states)]
    return pd.DataFrame(rows, columns=["file", "state", "reason"])


def start_ledger(root: Path) -> None:
    """Create the ledger of a run folder where it is missing.

    The files of version 0.1 are recorded as they are.

    Args:
        root: The run folder.
    """
    if not (root / LEDGER).is_file():
        Ledger.start(root, [root / name for name in _files(root) if name.split("/")[0] in WRITTEN])


def note_unchecked(root: Path) -> None:
    """Print a line, once per process, where a run's files cannot be checked.

    Args:
        root: The run folder.
    """
    if root in _noted:
        return
    if not (root / LEDGER).is_file():
        _noted.add(root)
        notice(f"{root}: no ledger, as in version 0.1: its files are not checked for changes")
        return
    ledger = Ledger.start(root)
    if ledger.damaged:
        _noted.add(root)
        notice(f"{root / LEDGER}: {ledger.damaged} damaged lines are ignored")


_noted: set[Path] = set()


def restore_manifest(root: Path) -> None:
    """Write a changed or missing manifest again, from its copy in the ledger.

    Args:
        root: The run folder.

    Raises:
        InputError: The manifest was changed, and the ledger has no copy.
    """
    ledger, file = Ledger.of(root / "manifest.json"), root / "manifest.json"
    if ledger is None or ledger.root != root.absolute():
        return
    state = ledger.state(file.name)
    if state not in ("changed", "missing"):
        return
    content = ledger.entries(file.name)[-1].content
    if content is None:
        raise InputError(f"{file} was changed since it was written ({ledger.reason(file.name)}): choose another --out")
    if state == "changed":
        reason = ledger.reason(file.name)
        notice(f"{file}: changed since it was written ({reason}): set aside as {set_aside(file)}, restored")
    with atomic_write(file) as target:
        target.write_text(content, encoding="utf-8")


def repair(root: Path) -> tuple[str, ...]:
    """Set the changed files of a run folder aside, so that they are made again.

    A file whose table or tensors are bad is set aside with them, because its presence marks them as complete. Files that the
    ledger has lost are recorded as they are.

    Args:
        root: The run folder.

    Returns:
        Names of the files to make again: changed, or missing.
    """
    ledger = Ledger.of(root / LEDGER)
    if ledger is None or ledger.root != root.absolute():
        return ()
    collecting = any((root / "stats").glob("state.*of*.safetensors"))
    bad = []
    for name in ledger.names():
        if collecting and name == "stats/samples.npy":  # the collection checks its rows
            continue
        state, file = ledger.state(name), root / name
        if name.split("/")[0] == LABELS:
            if state == "changed":
                notice(
                    f"{file}: changed since it was written ({ledger.reason(name)}): left as it is, for its author to check"
                )
        elif state == "changed":
            reason = ledger.reason(name)
            aside = set_aside(file)
            notice(f"{file}: changed since it was written ({reason}): set aside as {aside}, made again")
            bad.append(name)
        elif state == "missing":
            bad.append(name)
    markers = [marker for name in bad if (marker := _drop_marker(root, name)) is not None]
    for name in bad:
        table = (root / name).with_suffix(".parquet")
        if name.endswith(".csv") and table.is_file():
            with atomic_write(root / name) as file:
                file.write_text(pd.read_parquet(io.BytesIO(table.read_bytes())).to_csv(index=False), encoding="utf-8")
    _record_lost(ledger, root)
    return tuple(name for name in dict.fromkeys([*bad, *markers]) if not (root / name).is_file())


def settle(root: Path, names: tuple[str, ...]) -> None:
    """Name and forget the files that a finished run has not made again.

    Args:
        root: The run folder.
        names: Result of `repair`.
    """
    ledger = Ledger.of(root / LEDGER)
    for name in names:
        if ledger is not None and not (root / name).exists():
            notice(f"{root / name}: not made again by this command; the command that wrote it makes it again")
            ledger.forget(name)


def _record_lost(ledger: Ledger, root: Path) -> None:
    """Record the files whose lines the ledger has lost."""
    complete = (root / "stats/stats.json").is_file()
    lost = [
        name
        for name in _files(root)
        if name.split("/")[0] in WRITTEN
        and not ledger.entries(name)
        and (complete or name != "stats/samples.npy")  # a killed collection left it
    ]
    if lost:
        example = f"{lost[0]}, ..." if len(lost) > 1 else lost[0]
        notice(
            f"{root / LEDGER}: lacks {len(lost)} files of the folder ({example}): recorded unchecked, as they are now"
        )
        ledger.adopt([root / name for name in lost])


def set_aside(file: Path) -> str:
    """Rename a file.

    Args:
        file: The file.

    Returns:
        Its new name.
    """
    numbers = ("", *map(str, range(2, 1000)))
    target = next(path for n in numbers if not (path := file.with_name(f"{file.name}{ASIDE}{n}")).exists())
    with suppress(FileNotFoundError):  # another process was first
        os.replace(file, target)
    return target.name


def _drop_marker(root: Path, name: str) -> str | None:
    """Set aside the file that marks another one as complete; return its name."""
    marker = next((marks for pattern, marks in OTHER_MARKERS.items() if re.fullmatch(pattern, name)), None)
    for ending, marks in MARKERS.items():
        if name.endswith(ending):
            marker = name.removesuffix(ending) + marks
    if marker is None or not (root / marker).is_file():
        return None
    notice(f"{root / marker}: belongs to {Path(name).name}: set aside as {set_aside(root / marker)}, made again")
    return marker


def _files(root: Path) -> Iterator[str]:
    """Yield the files of a run folder that the ledger should have."""
    for folder, folders, files in os.walk(root):
        path = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not name.endswith(ENDING)
            and not any((path / name / file).exists() for file in (LEDGER, "manifest.json"))
        )
        for file in sorted(files):
            name = (path / file).relative_to(root).as_posix()
            if (
                file != LEDGER
                and not is_lock(file)
                and not re.search(rf"\{ASIDE}\d*$", file)
                and not SELF_CHECKED.fullmatch(name)
            ):
                yield name
