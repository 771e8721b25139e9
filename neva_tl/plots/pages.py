"""Template environment, assets and inert JSON data of the HTML pages."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from neva_tl.core.files import atomic_write

TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def environment() -> jinja2.Environment:
    """Return the template environment, with autoescape on.

    An undefined variable renders as empty text.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=False,
    )


@functools.cache
def asset(name: str) -> Markup:
    """Return one of the package's style sheets or scripts, not escaped."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def json_text(data: Any) -> Markup:
    """Serialise data as JSON that is safe inside a script element of any page.

    Everything outside ASCII is escaped (so no line separator and no lone surrogate reaches the parser), and so are `<`,
    `>` and `&`, so that no text can end the element. Numbers that are not finite become null.
    """
    text = json.dumps(plain(data), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def plain(data: Any) -> Any:
    """Reduce data to the types of JSON.

    Floats are rounded to five digits or None where not finite; other objects become their text.
    """
    if data is None or isinstance(data, bool | str | int):
        return data
    if isinstance(data, float):
        return float(f"{data:.5g}") if math.isfinite(data) else None
    if isinstance(data, dict):
        return {str(key): plain(item) for key, item in data.items()}
    if isinstance(data, list | tuple):
        return [plain(item) for item in data]
    return str(data)


def write_page(target: Path, page: str) -> Path:
    """Write a page atomically.

    A lone surrogate, which a tokenizer can produce, becomes `?`.
    """
    with atomic_write(target) as file:
        file.write_bytes(page.encode("utf-8", errors="replace"))
    return target
