"""Atomic writes (a file appears complete or not at all), and data cleaned for JSON."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

#: Suffix of the temporary folder used during a write.
ENDING = ".tmp"


def remove_stale_tmp(target: Path) -> None:
    """Remove temporary folders that killed processes left for a target; keeps those of running processes.

    Args:
        target: File whose temporary folders are looked for. Process ids are those of this machine.
    """
    for folder in target.parent.glob(f".{escape(target.name)}.*{ENDING}"):
        number = folder.name.removeprefix(f".{target.name}.").removesuffix(ENDING)
        if number.isdigit() and not _alive(int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process of another user
        return True
    return True


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces the target when the block succeeds and is removed when it raises.

    The temporary file has the target's name, in a temporary folder next to the target: writers choose their format by the
    suffix, and some (safetensors) create further files next to their output. A killed process leaves that folder: the next
    write of the same target removes it, as `RunFolder.open` does for a run folder.

    Args:
        target: File to write; its folder must exist.

    Yields:
        The temporary path.

    Raises:
        FileNotFoundError: The block wrote no file.
    """
    remove_stale_tmp(target)
    folder = target.with_name(f".{target.name}.{os.getpid()}{ENDING}")
    folder.mkdir(exist_ok=True)
    try:
        yield folder / target.name
        os.replace(folder / target.name, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def to_json(data: Any) -> Any:
    """Clean data for JSON: NaN and infinities become None, NumPy scalars become Python's.

    Args:
        data: Mappings, sequences and scalars, nested at will.

    Returns:
        The same structure of dicts (keys as strings), lists and plain scalars.
    """
    if isinstance(data, Mapping):
        return {str(key): to_json(item) for key, item in data.items()}
    if isinstance(data, (list, tuple)):
        return [to_json(item) for item in data]
    if hasattr(data, "item") and not isinstance(data, (str, bytes)):
        data = data.item()
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data
