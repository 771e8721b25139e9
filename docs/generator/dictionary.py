"""The data dictionary as pages: tables and files of a run folder."""

from __future__ import annotations

from neva_tl.core import dictionary

TABLES = """# Tables of a run

Every table that a run or an analysis writes, with unit and meaning of each column. Tables lie in `RUN/tables/` as `NAME.parquet`
and `NAME.csv`, and `nv.plots.read_table("runs/demo", "methods")` reads one. A test compares this page with the tables that
studies and analyses write. Intervals are 95 %, over prompts, resampled by topic; what they do not cover:
[methods](../methods.md#scope-of-the-intervals). Every formula is on [that page](../methods.md) too.

```python
import neva_tl as nv

table = nv.plots.read_table("runs/demo", "methods")
table[["method", "gain", "gain_lo", "gain_hi", "kl"]]
```

"""

FILES = """# Files of a run

What a run folder holds. `neva-tl inspect FILE` says what any file is and whether it is intact, `neva-tl verify RUN` compares a
whole folder with its ledger. Nothing is pickled: tables are parquet and CSV, arrays safetensors and `.npy`, the rest JSON.

"""


def cell(text: str) -> str:
    """Return a text that fits into a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("*", "\\*")


def tables_page() -> str:
    """Return the page of the tables."""
    lines = [TABLES, "## Units", "", "| unit | meaning |", "|---|---|"]
    lines += [f"| {unit} | {cell(meaning)} |" for unit, meaning in dictionary.units().items()]
    lines += [
        "",
        "Columns marked * are absent from some runs, because judge, selector or theory does not have them.",
        "",
    ]
    for table in dictionary.tables().values():
        lines += [f"## {table.name}", "", f"{table.about} Written by `{table.made_by}`.", ""]
        lines += ["| column | unit | meaning |", "|---|---|---|"]
        for column in table.columns:
            mark = " \\*" if column.optional else ""
            lines.append(f"| `{column.name}`{mark} | {cell(column.unit)} | {cell(column.meaning)} |")
        lines.append("")
    return "\n".join(lines)


def files_page() -> str:
    """Return the page of the files."""
    lines = [FILES, "| file | content |", "|---|---|"]
    lines += [f"| `{path}` | {cell(about)} |" for path, about in dictionary.files()]
    for file in ("results.json", "manifest.json"):
        lines += ["", f"## {file}", "", "| key | content |", "|---|---|"]
        lines += [
            f"| {'others' if key == '*' else f'`{key}`'} | {cell(about)} |"
            for key, about in dictionary.keys(file).items()
        ]
    return "\n".join([*lines, ""])


def dictionary_pages() -> dict[str, str]:
    """Return both pages: path -> Markdown."""
    return {"reference/tables.md": tables_page(), "reference/run_files.md": files_page()}
