"""whole_file(): files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to: renamed to it when the block ends well, removed when it does not.

    It starts with a dot, holds `.tmp` and ends as the target does (writers choose their format by the name's ending). A killed
    process may leave one behind; `Store.open` sweeps them away.
    """
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
