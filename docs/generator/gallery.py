"""The gallery: every script of figures/ with its picture, its table and its code."""

from __future__ import annotations

import ast
import re

from generator.names import ROOT, rooms
from neva_tl.core import dictionary

PICTURES = "docs/gallery"
HEAD = """# Gallery

Every script of `figures/` draws one figure from the tables of a run; `make figures RUN=runs/demo` runs them all, and
`python figures/NAME.py RUN` runs one. The pictures are of a run of the embedded demo model
(`make gallery RUN=runs/demo` draws them again). A script is short on purpose: copy it, change it, keep it with your paper.
[`nv.plots`](reference/rooms/plots.md) has the functions, [the data dictionary](reference/tables.md) the columns they read.

"""


def scripts() -> list[str]:
    """Return the names of the figures that have a script."""
    return sorted(path.stem for path in (ROOT / "figures").glob("*.py") if not path.stem.startswith("_"))


def registered() -> dict[str, tuple[str, str, str]]:
    """Return name -> table, function and command of the figures in `neva_tl/plots/files.py`, read from its source."""
    text = (ROOT / "neva_tl" / "plots" / "files.py").read_text(encoding="utf-8")
    figures = {}
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict)):
            continue
        for key, value in zip(node.value.keys, node.value.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(value, ast.Call) and len(value.args) > 1:
                names = [n.id for n in ast.walk(value.args[1]) if isinstance(n, ast.Name)]
                function = next((name for name in names if name not in ("df", "at_gain")), "")
                origin = value.args[2] if len(value.args) > 2 else None
                command = str(origin.value) if isinstance(origin, ast.Constant) else "neva-tl run"
                table = value.args[0]
                figures[key.value] = (str(getattr(table, "value", "")), function, command)
    return figures


def gallery_page() -> str:
    """Return the page."""
    lines, figures = [HEAD], registered()
    for name in scripts():
        code = (ROOT / "figures" / f"{name}.py").read_text(encoding="utf-8")
        summary = (ast.get_docstring(ast.parse(code)) or "").split("\n", 1)[0]
        lines += [f"## {name.replace('_', ' ').capitalize()}", "", *picture(name, summary)]
        tables, functions, command = sources(code, figures.get(name))
        if tables:
            read = " and ".join(f"[`{table}`](reference/tables.md#{table})" for table in tables)
            drawn = ", ".join(f"[`nv.plots.{function}`](reference/rooms/plots.md)" for function in functions)
            lines += [f"Reads {read}{f', which `{command}` writes' if command else ''}; drawn by {drawn}.", ""]
        lines += [f'??? example "figures/{name}.py"', "", "    ```python"]
        lines += [f"    {line}".rstrip() for line in code.rstrip().splitlines()]
        lines += ["    ```", ""]
    return "\n".join(lines)


def sources(code: str, figure: tuple[str, str, str] | None) -> tuple[list[str], list[str], str]:
    """Return the tables that a script reads, the functions that draw, and the command that writes the table.

    Args:
        code: The script.
        figure: Its entry in `registered`, for a script that names it alone.
    """
    described = dictionary.tables()
    tables = [name for name in dict.fromkeys(re.findall(r"read_table\(\w+, \"(\w+)\"", code)) if name in described]
    public = {name.path.rsplit(".", 1)[1] for room in rooms() if room.path == "nv.plots" for name in room.names}
    functions = [name for name in dict.fromkeys(re.findall(r"plots\.(\w+)\(", code)) if name in public - {"read_table"}]
    if tables and functions:
        return tables, functions, described[tables[0]].made_by
    if figure is None:
        return [], [], ""
    table, function, command = figure
    return [table], [function], command


def picture(name: str, summary: str) -> list[str]:
    """Return the picture of a figure, or how to draw it."""
    places = (f"gallery/{name}.png", f"results/{name}_demo.png")
    place = next((place for place in places if (ROOT / "docs" / place).is_file()), None)
    if place is None:
        return [f"Not drawn here: `python figures/{name}.py RUN` draws it.", ""]
    words = re.sub(r"[`\[\]]", "", summary) or name
    return [f"![{words}]({place})", ""]
