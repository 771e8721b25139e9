"""whole_file(): files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

#: How the name of a folder ends that holds what is being written.
ENDING = ".tmp"


def sweep(target: Path) -> None:
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
def whole_file(target: Path) -> Iterator[Path]:
    """A path to write to: put in the target's place when the block ends well, removed when it does not.

    It has the target's name, in a folder of its own beside the target: writers choose their format by the name's ending, and
    some (safetensors) write beside what they are given. A killed process may leave that folder behind: the next write of the
    same target sweeps it away, as `Store.open` does for a run folder.
    """
    sweep(target)
    folder = target.with_name(f".{target.name}.{os.getpid()}{ENDING}")
    folder.mkdir(exist_ok=True)
    try:
        yield folder / target.name
        os.replace(folder / target.name, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
