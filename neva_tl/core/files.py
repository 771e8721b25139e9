"""Atomic writes: a file appears complete or not at all."""

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
    """Remove what killed processes were writing for a target; what a living process of this machine writes stays."""
    for left in target.parent.glob(f".{escape(target.name)}.*{ENDING}"):
        number = left.name.removeprefix(f".{target.name}.").removesuffix(ENDING)
        if number.isdigit() and not _alive(int(number)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """A path to write to: put in the target's place when the block ends well, removed when it does not.

    It has the target's name, in a folder of its own beside the target: writers choose their format by the name's ending, and
    some (safetensors) write beside what they are given. A killed process may leave that folder behind: the next write of the
    same target sweeps it away, as `Store.open` does for a run folder.
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
