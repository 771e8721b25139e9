"""Compiled models: a forward pass under an edit runs uncompiled, since compiled code skips hooks.

`not_compiled` keeps `torch.compile` out of a function and of everything that it calls; `uncompiled` does the same for modules
that were compiled one by one. Nothing outside of such a pass is affected, and nothing is recompiled after the edit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])

_LOCK = threading.Lock()
#: Passes that run uncompiled at the moment, and the setting of the compiler before the first of them.
_running: list[object] = []
_stance: list[Any] = []


def not_compiled(function: F) -> F:
    """Return the function as one that runs as it is inside compiled code.

    Args:
        function: The function.
    """
    out: F = torch.compiler.disable(function)
    return out


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled modules as they were before `torch.compile` inside the block; blocks may overlap in several threads."""
    token = object()
    with _LOCK:
        if not _running:
            # the setting is one for the process: the first block changes it and the last one restores it
            stance = torch.compiler.set_stance("force_eager")
            stance.__enter__()
            _stance.append(stance)
        _running.append(token)
    try:
        yield
    finally:
        with _LOCK:
            _running.remove(token)
            if not _running:
                _stance.pop().__exit__(None, None, None)


def compiled_from(model: Any) -> Any:
    """The model that `torch.compile` wrapped; any other object as it is.

    Args:
        model: What the caller named as the model.
    """
    return getattr(model, "_orig_mod", model) if type(model).__name__ == "OptimizedModule" else model
