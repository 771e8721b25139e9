"""Block package installers while a model is loaded (TransformerLens calls pip for models with images)."""

from __future__ import annotations

import functools
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_INSTALLERS = frozenset(
    {"pip", "pip3", "uv", "conda", "mamba", "micromamba", "poetry", "pipx", "apt", "apt-get", "brew"}
)
_FUNCTIONS = ("check_call", "call", "run", "check_output")
_lock = threading.Lock()
_blocks: list[int] = []  # the thread of each block in force
_originals: dict[str, Callable[..., Any]] = {}


@contextmanager
def no_installer() -> Iterator[None]:
    """Refuse calls of package installers by this thread inside the block (`OSError`, as if there were none)."""
    thread = threading.get_ident()
    with _lock:
        if not _blocks:
            for name in _FUNCTIONS:
                _originals[name] = getattr(subprocess, name)
                setattr(subprocess, name, _guarded(_originals[name]))
        _blocks.append(thread)
    try:
        yield
    finally:
        with _lock:
            _blocks.remove(thread)
            if not _blocks:
                for name, function in _originals.items():
                    setattr(subprocess, name, function)


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        command = args[0] if args else kwargs.get("args", ())
        if threading.get_ident() in _blocks and _installs(command):
            raise FileNotFoundError("neva_tl runs no package installer while it loads a model")
        return function(*args, **kwargs)

    return guarded


def _installs(command: Any) -> bool:
    words = command.split() if isinstance(command, str) else list(command)
    programs = [os.path.basename(str(word)) for word in words[:3]]
    return bool(_INSTALLERS.intersection(programs))
