"""Tables on stdout: rich tables on a terminal, plain text in a pipe or a file.

Plain text has no colours and one line per row, whatever its width, so that it can be cut, searched and compared. On a terminal
a table that is wider than the window is printed in several blocks, each with the columns that name its rows.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

_NUMBER = re.compile(r"(NaN|own|[-–+]|[\d.,\[\]\-+e%/>\s])*")
#: Largest number of columns that name the rows of each block.
KEYS = 2
#: Narrowest text column of a block, in characters; longer texts are folded into several lines.
TEXT_WIDTH = 24


def print_table(table: pd.DataFrame, *, index: bool = False, missing: str = "NaN") -> None:
    """Print a table on stdout.

    Args:
        table: The table, with its numbers rounded.
        index: Whether to print the index as the first column.
        missing: Text of missing numbers.
    """
    print_report(
        table.to_string(index=index, na_rep=missing), lambda: [table.reset_index() if index else table], missing
    )


def print_report(plain: str, parts: Callable[[], Sequence[str | pd.DataFrame]], missing: str = "NaN") -> None:
    """Print a result that consists of sentences and tables on stdout.

    Args:
        plain: The complete result as plain text, for pipes and files.
        parts: Returns its sentences and tables in order, for terminals.
        missing: Text of missing numbers.
    """
    if not sys.stdout.isatty():
        print(plain)
        return
    console = _console()
    for part in parts():
        if isinstance(part, str):
            console.print(part)
        else:
            print_blocks(part, console, missing)


def print_rows(plain: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text on stdout, without pandas, which takes long to import.

    Args:
        plain: The rows as plain text, for pipes and files.
        names: Names of the columns.
        rows: Cells of each row.
    """
    if not sys.stdout.isatty():
        print(plain)
    else:
        _print_columns([_Column(name, cells) for name, *cells in zip(names, *rows, strict=True)], _console())


def print_blocks(table: pd.DataFrame, console: Console, missing: str = "NaN") -> None:
    """Print a table on a console, in as many blocks as its width needs.

    Args:
        table: The table.
        console: The terminal.
        missing: Text of missing numbers.
    """
    _print_columns([_Column(str(name), _cells(column, missing)) for name, column in table.items()], console)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def _print_columns(columns: Sequence[_Column], console: Console) -> None:
    keys = 0
    while keys < min(KEYS, len(columns) - 1) and not columns[keys].number:
        keys += 1
    block = list(columns[:keys])
    for column in columns[keys:]:
        if len(block) > keys and _width([*block, column], console) > console.width:
            console.print(_rich(block))
            block = list(columns[:keys])
        block.append(column)
    console.print(_rich(block))


@dataclass(frozen=True)
class _Column:
    """A column as text.

    Attributes:
        name: Its heading.
        cells: Text of each row.
    """

    name: str
    cells: Sequence[str]

    @property
    def number(self) -> bool:
        """Whether it is aligned to the right: numbers, intervals, changes (`1.0 -> 1.1`), dashes."""
        return all(_NUMBER.fullmatch(cell) for cell in self.cells)

    @property
    def needed(self) -> int:
        """Characters that it needs: numbers stay in one line, longer texts are folded to `TEXT_WIDTH`."""
        longest = max(map(len, [self.name, *self.cells]))
        return longest if self.number else min(TEXT_WIDTH, longest)


def _cells(column: pd.Series[Any], missing: str) -> list[str]:
    """Return a column as pandas prints it, with every text in one line."""
    if not len(column):
        return []
    if column.dtype.kind in "iufb":
        return [
            line.strip() for line in column.to_frame().to_string(index=False, header=False, na_rep=missing).split("\n")
        ]
    return [missing if _is_missing(cell) else " ".join(str(cell).split()) for cell in column]


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and cell != cell) or type(cell).__name__ == "NAType"


def _rich(columns: Sequence[_Column]) -> Table:
    from rich.text import Text

    table = _empty_table()
    for column in columns:
        if column.number:
            table.add_column(Text(column.name), justify="right", no_wrap=True, min_width=column.needed)
        else:
            table.add_column(Text(column.name), overflow="fold", min_width=column.needed)
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, row))
    return table


def _empty_table() -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")


def _width(columns: Sequence[_Column], console: Console) -> int:
    """Characters that a block needs at least."""
    from rich.measure import Measurement

    table = _empty_table()
    for column in columns:
        table.add_column("x" * column.needed, no_wrap=True)
    return Measurement.get(console, console.options.update(max_width=10_000), table).minimum
