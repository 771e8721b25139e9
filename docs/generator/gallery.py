"""The gallery: every script of figures/ with its picture, its table and its code."""

from __future__ import annotations

import ast
import re

from generator.names import ROOT

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
        lines += [f"## {name.replace('_', ' ')}", "", *picture(name, summary)]
        if name in figures:
            table, function, command = figures[name]
            lines += [
                f"Reads the table [`{table}`](reference/tables.md#{table}), which `{command}` writes; drawn by "
                f"[`nv.plots.{function}`](reference/rooms/plots.md).",
                "",
            ]
        lines += [f'??? example "figures/{name}.py"', "", "    ```python"]
        lines += [f"    {line}".rstrip() for line in code.rstrip().splitlines()]
        lines += ["    ```", ""]
    return "\n".join(lines)


def picture(name: str, summary: str) -> list[str]:
    """Return the picture of a figure, or how to draw it."""
    file = ROOT / PICTURES / f"{name}.png"
    if not file.is_file():
        return [f"Not drawn here: `python figures/{name}.py RUN` draws it.", ""]
    words = re.sub(r"[`\[\]]", "", summary) or name
    return [f"![{words}](gallery/{name}.png)", ""]
