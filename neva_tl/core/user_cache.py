"""The user's cache folder: converted checkpoints, statistics and measurements, each entry a folder named by its content.

An entry can be removed at any time: it is computed again when needed. `prune` keeps the folder below a size limit and removes
the entries that were used the longest time ago.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from neva_tl.core.errors import InputError
from neva_tl.core.locks import is_locked

#: Size limit in gigabytes (10^9 bytes) unless `NEVA_TL_CACHE_GB` says otherwise.
LIMIT_GB = 20.0
#: File whose modification time is the entry's last use. It holds the entry's size once nothing writes into the entry any more,
#: so that a listing does not walk all entries; a use empties it.
USED = ".used"
#: Folders of entries inside the cache; converted checkpoints are entries of the cache folder itself.
ROOMS = ("evidence", "steering", "layers", "own_words", "judges", "gguf", "sae")
#: An entry used within this many seconds is never removed by `prune`: another process may be at work in it.
IN_USE_S = 3600.0


def cache_folder() -> Path:
    """Return `NEVA_TL_CACHE`, else `neva_tl` in the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`)."""
    named = os.environ.get("NEVA_TL_CACHE")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "neva_tl"


def limit_bytes() -> int:
    """Return the size limit in bytes.

    Raises:
        InputError: `NEVA_TL_CACHE_GB` is not a positive number.
    """
    text = os.environ.get("NEVA_TL_CACHE_GB", str(LIMIT_GB))
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not 0 < limit < 1e9:
        raise InputError(f"NEVA_TL_CACHE_GB is {text!r}: set a size in gigabytes, for example 20")
    return int(limit * 1e9)


@dataclass(frozen=True)
class Entry:
    """One entry of the cache.

    Attributes:
        path: Its folder.
        kind: `evidence`, `steering`, `layers`, `own_words`, `judges`, `gguf` (a fetched file), `sae` (a trained sparse
            autoencoder, or its features' moments) or `checkpoint` (a converted one).
        size: Bytes on disk.
        used: Time of the last use, in seconds since the epoch.
    """

    path: Path
    kind: str
    size: int
    used: float

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def entry_folder(kind: str, key: str) -> Path:
    """Return the folder of an entry and mark it as used.

    Args:
        kind: One of `ROOMS`.
        key: Name of the entry, by its content.

    Raises:
        InputError: The folder cannot be created.
    """
    folder = cache_folder() / kind / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark_used(folder)
    except OSError as error:
        raise InputError(
            f"the cache folder {folder} cannot be written ({error.strerror}): set NEVA_TL_CACHE to another folder"
        ) from error
    return folder


def mark_used(folder: Path) -> None:
    """Set the time of the last use of an entry to now.

    Args:
        folder: Its folder.
    """
    _mark(folder).write_text("", encoding="ascii")


def _mark(folder: Path) -> Path:
    return folder.parent / f"{folder.name}{USED}"


def entries() -> list[Entry]:
    """List the entries, the most recently used first."""
    root = cache_folder()
    listed = []
    for kind, parent in (("checkpoint", root), *((room, root / room) for room in ROOMS)):
        if not parent.is_dir():
            continue
        for folder in parent.iterdir():
            if folder.is_dir() and not folder.name.startswith(".") and not (parent == root and folder.name in ROOMS):
                used = _last_use(folder)
                listed.append(Entry(folder, kind, _size(folder, used), used))
    return sorted(listed, key=lambda entry: -entry.used)


def prune(limit: int | None = None, *, everything: bool = False) -> list[Entry]:
    """Remove the entries that were used the longest time ago until the cache is below its limit.

    An entry that another process has locked stays.

    Args:
        limit: Bytes; None takes `limit_bytes()`.
        everything: Remove all entries, also those of the last hour.

    Returns:
        The removed entries.
    """
    room = 0 if everything else limit_bytes() if limit is None else limit
    now, total, removed = time.time(), 0, []
    for entry in entries():
        total += entry.size
        if (everything or (total > room and now - entry.used > IN_USE_S)) and not is_locked(entry.path):
            entry.remove()
            _mark(entry.path).unlink(missing_ok=True)
            removed.append(entry)
            total -= entry.size
    return removed


def _size(folder: Path, used: float) -> int:
    """Return the bytes of an entry: those that its mark records, or else counted."""
    mark = _mark(folder)
    with suppress(OSError, ValueError):
        return int(mark.read_text(encoding="ascii"))
    total = _counted(folder)
    if time.time() - used > IN_USE_S:  # nothing writes into it until its next use
        with suppress(OSError):  # a read-only cache
            mark.write_text(str(total), encoding="ascii")
            os.utime(mark, (used, used))
    return total


def _counted(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() and not file.is_symlink() else 0
        except OSError:  # removed by another process
            continue
    return total


def _last_use(folder: Path) -> float:
    mark = _mark(folder)
    try:
        return (mark if mark.exists() else folder).stat().st_mtime
    except OSError:
        return 0.0
