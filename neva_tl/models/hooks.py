"""Hooks for a while: put on together, taken off whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from neva_tl import models


@contextmanager
def hooked(model: Any, wanted: Iterable[tuple[str, Callable[..., Any]]]) -> Iterator[None]:
    """Put functions on hook points, as `models.add_hook` does, and take all of them off at the end.

    Raises:
        InputError: the model has no such hook point (none stays on).
    """
    with ExitStack() as stack:
        for name, fn in wanted:
            stack.callback(models.add_hook(model, name, fn).remove)
        yield


@contextmanager
def watched(
    model: Any, names: Iterable[str], keep: Callable[[Tensor], Tensor] | None = None
) -> Iterator[dict[str, Tensor]]:
    """Remember what passes hook points, by name: the latest forward pass's.

    Args:
        keep: what is remembered of an activation; by default a detached copy, since a hook of somebody else may change
            the tensor in place later.
    """
    seen: dict[str, Tensor] = {}

    def look(name: str) -> Callable[..., None]:
        def record(x: Tensor, hook: Any = None) -> None:
            seen[name] = x.detach().clone() if keep is None else keep(x)

        return record

    with hooked(model, [(name, look(name)) for name in dict.fromkeys(names)]):
        yield seen
