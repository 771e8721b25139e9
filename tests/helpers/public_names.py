"""The public names of neva_tl: everything that `__all__` lists, in the package and in the rooms that it exposes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import neva_tl as nv


def public_names() -> dict[str, Any]:
    """Classes and functions by their first public path, `nv.select` or `nv.circuits.Nodes`; each object once."""
    names: dict[str, Any] = {}
    rooms: list[tuple[str, ModuleType]] = [("nv", nv)]
    objects: set[int] = set()
    for path, room in rooms:  # grows: breadth first, so that the shortest path wins
        for name in room.__all__:
            thing = getattr(room, name)
            if id(thing) in objects:
                continue
            objects.add(id(thing))
            if isinstance(thing, ModuleType):
                rooms.append((f"{path}.{name}", thing))
            elif inspect.isclass(thing) or inspect.isroutine(inspect.unwrap(thing)):
                names[f"{path}.{name}"] = thing
    return names


def docstrings(path: str, thing: Any) -> Iterator[tuple[str, str]]:
    """The docstring of a name, and those of a class's own public methods and properties, each with its path."""
    if thing.__doc__:
        yield path, thing.__doc__
    if inspect.isclass(thing):
        for name, member in vars(thing).items():
            function = getattr(member, "__func__", member)
            if not name.startswith("_") and not inspect.isclass(function) and getattr(function, "__doc__", None):
                yield f"{path}.{name}", function.__doc__
