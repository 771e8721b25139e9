"""Lines and progress bars on stderr, at one level for the whole process: quiet, normal or verbose.

`say` prints progress, `notice` what the user can act on, `detail` decisions and timings; results go to stdout and are not
printed here. A loop shows `progress_bar(...)`. Inside `long_steps(True)` the loops of inner functions, which are called without
`progress`, show their bars too, once they have taken `DELAY_S`.

Example:
    >>> from neva_tl.core.messages import Level, at_level, level, say
    >>> with at_level(Level.QUIET):
    ...     say("collecting")  # prints nothing
    ...     level().name
    'QUIET'
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

#: Seconds after which the bar of an inner loop appears.
DELAY_S = 5.0
#: Seconds between two lines of a bar where stderr is a file: every update is a line there.
FILE_INTERVAL_S = 2.0


class Level(IntEnum):
    """How much is printed on stderr."""

    #: Errors, warnings and notices only.
    QUIET = 0
    #: Also bars and one line per step.
    NORMAL = 1
    #: Also decisions, timings and log records.
    VERBOSE = 2


_log = logging.getLogger("neva_tl")
_state: dict[str, Any] = {"level": Level.NORMAL, "long": False, "leaf": None}


def level() -> Level:
    """Return the level of this process."""
    return _state["level"]


def set_level(new: Level) -> None:
    """Set the level of this process.

    At `VERBOSE` the records of Python's logging are printed too: those of neva_tl from INFO, those of libraries from WARNING.

    Args:
        new: The level.
    """
    _state["level"] = new
    root = logging.getLogger()
    root.removeHandler(_handler)
    if new is Level.VERBOSE:
        root.addHandler(_handler)
    _log.setLevel(logging.INFO if new is Level.VERBOSE else logging.NOTSET)


@contextmanager
def at_level(new: Level) -> Iterator[None]:
    """Set the level inside the block, and restore the former one after it.

    Args:
        new: The level at the start; the block may change it.
    """
    before = level()
    set_level(new)
    try:
        yield
    finally:
        set_level(before)


def say(text: str, progress: bool = True) -> None:
    """Print a line of progress; nothing at the level `QUIET`.

    Args:
        text: The line.
        progress: Whether the caller's user wants progress.
    """
    if progress and level() > Level.QUIET:
        _write(text)


def notice(text: str) -> None:
    """Print a line at every level: an error, a warning, or what was left out.

    Args:
        text: The line.
    """
    _write(text)


def detail(text: str) -> None:
    """Log a decision or a timing (logger `neva_tl`, level INFO), which `VERBOSE` prints.

    Args:
        text: The line.
    """
    _log.info("%s", text)


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Log the seconds that the block took (see `detail`); a block that fails has its error alone.

    Args:
        name: The step.
    """
    start = time.monotonic()
    yield
    detail(f"{name}: {time.monotonic() - start:.1f} s")


@contextmanager
def long_steps(progress: bool) -> Iterator[None]:
    """Let inner loops show bars once they have taken `DELAY_S`.

    Args:
        progress: Whether the caller's user wants progress; False also switches off an enclosing `long_steps(True)`.
    """
    before = _state["long"]
    _state["long"] = progress
    try:
        yield
    finally:
        _state["long"] = before


def progress_bar(iterable: Any = None, *, progress: bool = False, leaf: bool | None = None, **options: Any) -> Any:
    """Return a tqdm bar on stderr; disabled at the level `QUIET`.

    Args:
        iterable: What the loop runs over; None for a bar that `update` moves.
        progress: Show the bar at once. False shows it only inside `long_steps`, after `DELAY_S`, and removes it at the end.
        leaf: Show no bars of inner loops meanwhile; None is True without `progress`, else False. A loop whose steps take long
            is not a leaf.
        options: Further arguments of tqdm: `total`, `desc`, `unit`, `initial`, ...
    """
    from tqdm import tqdm

    inner = not progress
    hidden = level() is Level.QUIET or (inner and (not _state["long"] or _leaf_is_open()))
    if inner:
        options = {"delay": DELAY_S, "leave": False, **options}
    if not sys.stderr.isatty():
        options = {"mininterval": FILE_INTERVAL_S, **options}
    shown = tqdm(iterable, file=sys.stderr, disable=hidden, **options)
    if not hidden and (inner if leaf is None else leaf):
        _state["leaf"] = weakref.ref(shown)
    return shown


def _leaf_is_open() -> bool:
    shown = _state["leaf"]() if _state["leaf"] is not None else None
    return shown is not None and not shown.disable  # tqdm disables a bar that it closes


def _write(text: str) -> None:
    tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)
    if tqdm is not None and getattr(tqdm, "_instances", None):  # a line must not be appended to a bar that is shown
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()
    else:
        print(text, file=sys.stderr, flush=True)


class _Lines(logging.Handler):
    """Prints log records with the seconds since the start."""

    def emit(self, record: logging.LogRecord) -> None:
        _write(f"[{record.relativeCreated / 1000:6.1f} s] {record.getMessage()}")


_handler = _Lines()


def import_bars() -> None:
    """Import `tqdm.auto`, which transformers imports, without its warning in a notebook that lacks ipywidgets.

    tqdm falls back to text bars there, and the bars of neva_tl are text bars everywhere, so that the advice to install
    ipywidgets does not help. tqdm warns once, when it is imported: a user who imports it first still sees the warning.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import tqdm.auto  # noqa: F401
