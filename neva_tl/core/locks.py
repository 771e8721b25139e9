"""Locks between processes: one at a time writes a run folder, or an entry of the user's cache.

The operating system releases the lock of a process that ends, however it ends, so that a killed one never blocks the next. A
record in the same folder names the process that holds the lock, for the message to others.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.messages import notice, say

#: File of a folder that is locked while a process writes into the folder; a killed process leaves it, unlocked.
LOCK = ".neva-lock"
#: Ending of the file beside the lock that names its process.
OWNER = ".owner"
#: Error numbers of file systems without locks.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})

#: Locks of this process: (file, thread) -> number of blocks that hold it, which may be nested.
_depth: dict[tuple[str, int], int] = {}


@contextmanager
def lock_folder(folder: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder inside the block; the folder is created when missing.

    Blocks of one thread may be nested.

    Args:
        folder: The folder.
        wait: Wait for another process, with one line on stderr; False refuses.

    Raises:
        InputError: Another process holds it (only without `wait`), or the folder cannot be created.

    Example:
        >>> with lock_folder(tmp_path / "run"):
        ...     print([file.name for file in (tmp_path / "run").glob(".neva-lock")])
        ['.neva-lock']
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder} ({error.strerror}): choose another") from error
    with lock_file(folder / LOCK, str(folder), wait=wait):
        yield


@contextmanager
def lock_file(file: Path, name: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock inside the block.

    Args:
        file: The lock file, in an existing folder.
        name: What is locked, for messages.
        wait: See `lock_folder`.

    Raises:
        InputError: Another process holds it (only without `wait`), or the file cannot be written.
    """
    key = (os.path.realpath(file), threading.get_ident())
    if key in _depth:
        _depth[key] += 1
        try:
            yield
        finally:
            _depth[key] -= 1
        return
    lock = _acquired(file, name, wait)
    if lock is None:
        yield
        return
    owner = file.with_name(f"{file.name}{OWNER}")
    _depth[key] = 1
    try:
        with suppress(OSError):  # the record only serves a message
            owner.write_text(json.dumps(_record()), encoding="utf-8")
        yield
    finally:
        del _depth[key]
        with suppress(OSError):
            owner.unlink(missing_ok=True)
        with suppress(OSError):  # before the release: filelock retries where the file that it waited for was removed
            file.unlink()
        lock.release()


def refuse_locked(folder: str | Path) -> None:
    """Refuse a folder that another process writes into, before any work. Creates nothing.

    Args:
        folder: The folder, which may be missing.

    Raises:
        InputError: Another process holds its lock.
    """
    if (Path(folder) / LOCK).is_file():
        with lock_folder(folder):
            pass


def is_locked(folder: Path) -> bool:
    """Return whether another process or thread holds the lock of a folder.

    Args:
        folder: The folder.
    """
    try:
        refuse_locked(folder)
    except InputError:
        return True
    return False


def is_lock(name: str) -> bool:
    """Return whether a file name is that of a folder's lock or of its record.

    Args:
        name: The name, without its folder.
    """
    return name in (LOCK, f"{LOCK}{OWNER}")


def _acquired(file: Path, name: str, wait: bool) -> Any:
    """Return the lock, held; None on a file system without locks."""
    from filelock import FileLock, Timeout  # here, since every command imports this module

    lock = FileLock(file)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            owner = _owner(file)
            if not wait:
                raise InputError(
                    f"{name} is in use by {owner}: wait until it has finished, or stop it; then run the same command again"
                ) from None
            say(f"{name} is in use by {owner}: waiting for it")
            lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise InputError(f"cannot lock {name} ({error.strerror or error}): choose another folder") from error
        notice(f"{name}: its file system has no locks: do not run two commands on it at once")
        return None
    return lock


def _record() -> dict[str, object]:
    import socket

    return {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().isoformat(timespec="seconds")}


def _owner(file: Path) -> str:
    """Describe the process that holds a lock."""
    try:
        record = json.loads(file.with_name(f"{file.name}{OWNER}").read_text(encoding="utf-8"))
        return f"process {int(record['pid'])} on {record['host']} (since {record['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
