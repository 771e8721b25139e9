"""Notebook display: HTML cards (all text escaped) and tables with a figure."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

from neva_tl.core.formatting import format_fact

#: Rows of a table that a card shows.
ROWS = 10


def card(
    title: str,
    facts: Mapping[str, Any] | None = None,
    table: pd.DataFrame | None = None,
    *,
    note: str = "",
    rows: int = ROWS,
    index: bool = False,
) -> str:
    """Render a result as HTML: title, facts on one line, note, head of a table.

    Args:
        title: Name of the result.
        facts: Name -> value; floats with three digits, None and NaN as a dash.
        table: Table of which the first `rows` rows are shown; a line below tells when there are more.
        note: Sentence below the facts.
        rows: Largest number of rows shown.
        index: Whether to show the table's index.
    """
    parts = [f"<p><b>{html.escape(title)}</b>"]
    if facts:
        parts.append(
            "<br>" + " · ".join(f"{html.escape(name)}: {html.escape(format_fact(x))}" for name, x in facts.items())
        )
    parts.append("</p>")
    if note:
        parts.append(f"<p>{html.escape(note)}</p>")
    if table is not None:
        parts.append(
            table.head(rows).to_html(index=index, escape=True, float_format=lambda x: format_fact(float(x)), na_rep="–")
        )
        if len(table) > rows:
            parts.append(f"<p>the first {rows} of {len(table):,} rows</p>")
    return f'<div class="neva-tl">{"".join(parts)}</div>'


class ResultTable(pd.DataFrame):
    """A DataFrame with `.show()`; selections of its rows and columns keep the figure.

    Attributes:
        figure: Name in `neva_tl.plots.FIGURES`, or empty.
        constants: Columns that the figure needs and the table omits because they are equal in all rows: name -> value.
    """

    _metadata: ClassVar[list[str]] = ["figure", "constants"]
    figure: str = ""
    constants: Mapping[str, Any] = {}

    @property
    def _constructor(self) -> type[ResultTable]:
        return ResultTable

    def show(self) -> Any:
        """Draw the table as a matplotlib figure.

        Raises:
            InputError: No figure draws this table, or columns or rows that the figure needs are missing.
        """
        from neva_tl.core.errors import InputError
        from neva_tl.plots.files import FIGURES

        if self.figure not in FIGURES:
            raise InputError(f"no figure draws this table: neva_tl.plots has {', '.join(FIGURES)}")
        missing = {name: x for name, x in self.constants.items() if name not in self.columns}
        return FIGURES[self.figure].draw(pd.DataFrame(self).assign(**missing))


def showable(table: pd.DataFrame, figure: str, **constants: Any) -> ResultTable:
    """Attach a figure of `neva_tl.plots.FIGURES` to a table; keeps its `attrs`.

    Args:
        table: Any table.
        figure: Name of the figure that `.show()` draws.
        **constants: See `ResultTable`.
    """
    out = ResultTable(table)
    out.attrs.update(table.attrs)
    out.figure, out.constants = figure, constants
    return out
