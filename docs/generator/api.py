"""Pages of the Python API: one for each name of `nv`, one for each room, and a table of all names."""

from __future__ import annotations

import ast
import os.path
from collections.abc import Iterable

from generator.names import Name, Room, comment, pages, resolve, room_page, rooms, source

#: Characters of a constant's value that its entry shows.
SHOWN = 400


def anchor(name: Name) -> str:
    """Return the anchor of a name on its page."""
    return name.origin


def link(name: Name, page: str) -> str:
    """Return a link from one page of the reference to a name, which is short on the page of its own room."""
    room = next(room for room in rooms() if name in room.names)
    text = name.path.rsplit(".", 1)[1] if page == room_page(room) else name.path
    if name.kind == "module":
        target = next(room for room in rooms() if room.module == name.module)
        return f"[`{text}`]({relative(room_page(target), page)})"
    return f"[`{text}`]({relative(pages()[name.origin], page)}#{anchor(name)})"


def relative(target: str, page: str) -> str:
    """Return the relative path from one page to another."""
    return os.path.relpath(target, os.path.dirname(page)).replace(os.sep, "/")


def table(names: Iterable[Name], page: str) -> list[str]:
    """Return a table of names with the first line of each docstring."""
    rows = [f"| {link(name, page)} | {name.kind} | {name.summary.replace('|', chr(92) + '|')} |" for name in names]
    return ["| name | kind | content |", "|---|---|---|", *rows, ""]


def entry(name: Name, level: int) -> list[str]:
    """Return the entry of a definition; mkdocstrings fills it from the docstring."""
    if name.kind == "constant":
        return constant(name, level)
    return [f"::: {name.origin}", "    options:", f'      heading: "{name.path}"', f"      heading_level: {level}", ""]


def constant(name: Name, level: int) -> list[str]:
    """Return the entry of a constant: its comment and the beginning of its value."""
    _, _, node = resolve(name.module, name.target)
    file = source(name.module)
    assert node is not None and file is not None
    text = ast.get_source_segment(file.read_text(encoding="utf-8"), node) or ""
    if len(text) > SHOWN:
        text = text[:SHOWN].rsplit("\n", 1)[0] + "\n    ..."
    heading = f"{'#' * level} {name.path} {{ #{anchor(name)} }}"
    return [heading, "", comment(name.module, node), "", "```python", text, "```", ""]


def name_page(name: Name) -> str:
    """Return the page of a name of `nv`."""
    return "\n".join([f"---\ntitle: {name.path}\n---\n", *entry(name, 1)])


def room_text(room: Room, page: str) -> str:
    """Return the page of a room: its docstring, a table of its names, and the entries of those without a page of their own."""
    also = sorted(
        name.path for one in rooms() for name in one.names if name.module == room.module and name.kind == "module"
    )
    lines = [f"# {room.path}", "", room.text, ""]
    if len(also) > 1:
        lines += ["The same room has the names " + " and ".join(f"`{path}`" for path in also) + ".", ""]
    lines += table(room.names, page)
    for name in room.names:
        if name.kind != "module" and pages()[name.origin] == page and first(name):
            lines += entry(name, 2)
    return "\n".join(lines)


def first(name: Name) -> bool:
    """Return whether this is the first public path of a definition: one object may have several."""
    paths = [other.path for room in rooms() for other in room.names if other.origin == name.origin]
    return paths[0] == name.path


def constants_page() -> str:
    """Return the page of the constants of `nv`."""
    top = rooms()[0]
    lines = ["# Constants of nv", "", "The version, `nv.__version__`, is a text.", ""]
    for name in top.names:
        if name.kind == "constant" and "__" not in name.path:
            lines += entry(name, 2)
    return "\n".join(lines)


def index_page() -> str:
    """Return the table of every public name."""
    page = "reference/index.md"
    lines = [
        "# Every public name",
        "",
        "`import neva_tl as nv` gives the names of the first table; the rooms below hold what they are made of. Each entry has",
        "types, shapes, errors and an example, and `make test` runs every example. Names that are not listed here may move.",
        "",
    ]
    for room in rooms():
        lines += [f"## {room.path}", ""]
        if room.path != "nv":
            lines += [room.text.split("\n", 1)[0], ""]
        lines += table((name for name in room.names if "__" not in name.path), page)
    return "\n".join(lines)


def api_pages() -> dict[str, str]:
    """Return all pages of the API: path -> Markdown."""
    top, *others = rooms()
    files = {"reference/index.md": index_page(), "reference/constants.md": constants_page()}
    for name in top.names:
        if name.kind in ("function", "class"):
            files[pages()[name.origin]] = name_page(name)
    for room in others:
        files[room_page(room)] = room_text(room, room_page(room))
    return files


def api_nav() -> list[dict[str, object]]:
    """Return the part of the navigation that lists these pages."""
    top, *others = rooms()
    names: list[object] = [
        {name.path: pages()[name.origin]} for name in top.names if name.kind in ("function", "class")
    ]
    return [
        {"Every public name": "reference/index.md"},
        {"Names of nv": [*names, {"Constants": "reference/constants.md"}]},
        {"Rooms": [{room.path: room_page(room)} for room in sorted(others, key=lambda room: room.path)]},
    ]
