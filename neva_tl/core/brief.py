"""Short reprs: one line per object, with sizes in place of arrays, tables and long collections."""

from __future__ import annotations

import reprlib
from dataclasses import fields, is_dataclass
from typing import Any

#: Longest text and longest nested object, in characters.
TEXT, NESTED = 120, 160
#: Length from which the remaining fields are left out.
LENGTH = 800


class _Brief(reprlib.Repr):
    """`reprlib` that writes arrays as dtype and shape, tables as their size."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring, self.maxother, self.maxlong = TEXT, NESTED, 40
        self.maxtuple = self.maxlist = self.maxset = self.maxfrozenset = 6
        self.maxdict, self.maxlevel = 4, 3

    def repr1(self, x: Any, level: int) -> str:
        if hasattr(x, "columns") and hasattr(x, "iloc"):
            return f"<table of {len(x):,} rows>"
        if hasattr(x, "dtype") and len(getattr(x, "shape", "")):
            return f"<{x.dtype}[{', '.join(map(str, x.shape))}]>"
        if hasattr(x, "dtype") and hasattr(x, "item"):
            x = x.item()
        return super().repr1(x, level)

    def repr_float(self, x: float, _level: int) -> str:
        return f"{x:.6g}"

    def repr_instance(self, x: Any, _level: int) -> str:
        text = repr(x)
        return text if len(text) <= self.maxother and "\n" not in text else f"<{type(x).__name__}>"

    def repr_mappingproxy(self, x: Any, level: int) -> str:
        return self.repr_dict(x, level)


_BRIEF = _Brief()


def brief(thing: Any) -> str:
    """Format an object as `Name(field=..., ...)` on one line; set a class's `__repr__` to it.

    Args:
        thing: A dataclass or a named tuple. Private fields and fields that are empty (None, "", {}, ()) are left out.
    """
    names = [field.name for field in fields(thing) if field.repr] if is_dataclass(thing) else thing._fields
    shown: list[str] = []
    for name in names:
        if sum(map(len, shown)) > LENGTH:
            shown.append("...")
            break
        content = getattr(thing, name)
        empty = content is None or (isinstance(content, str | tuple | list | dict) and not len(content))
        if not name.startswith("_") and not empty:
            shown.append(f"{name}={_BRIEF.repr(content)}")
    return f"{type(thing).__name__}({', '.join(shown)})"
