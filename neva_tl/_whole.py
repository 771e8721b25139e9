"""whole_file(): files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path


def sweep(target: Path) -> None:
    """Remove what killed processes were writing for a target; what a living process of this machine writes stays."""
    for left in target.parent.glob(f".{escape(target.stem)}.*.tmp{escape(target.suffix)}"):
        number = left.name.removeprefix(f".{target.stem}.").removesuffix(f".tmp{target.suffix}")
        if number.isdigit() and not _alive(int(number)):
            left.unlink(missing_ok=True)


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
    """A path beside `target` to write to: renamed to it when the block ends well, removed when it does not.

    It starts with a dot, holds `.tmp` and ends as the target does (writers choose their format by the name's ending). A killed
    process may leave one behind: the next write of the same target sweeps it away, as `Store.open` does for a run folder.
    """
    sweep(target)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
