"""How results look in a notebook: one small card, everything in it escaped. And tables that can show themselves."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

#: Rows of a table that a card holds.
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
    """A result as HTML: a title, key numbers on one line, a note, the head of a table. All text is escaped.

    Args:
        title: what it is.
        facts: name -> value; floats to three digits, None and NaN as a dash.
        table: its first `rows` rows are shown, and said to be the first where there are more.
        note: a sentence below the facts.
        index: show the table's index.
    """
    parts = [f"<p><b>{html.escape(title)}</b>"]
    if facts:
        parts.append("<br>" + " · ".join(f"{html.escape(name)}: {html.escape(fact(x))}" for name, x in facts.items()))
    parts.append("</p>")
    if note:
        parts.append(f"<p>{html.escape(note)}</p>")
    if table is not None:
        parts.append(
            table.head(rows).to_html(index=index, escape=True, float_format=lambda x: fact(float(x)), na_rep="–")
        )
        if len(table) > rows:
            parts.append(f"<p>the first {rows} of {len(table):,} rows</p>")
    return f'<div class="neva-tl">{"".join(parts)}</div>'


def fact(value: Any) -> str:
    """A value as a card writes it."""
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


class ResultTable(pd.DataFrame):
    """A table that can draw itself: a DataFrame in everything else. Parts of it keep the figure; `figure` names it.

    Attributes:
        figure: a name in `neva_tl.plots.FIGURES`, or empty.
        constants: columns that the figure needs and the table leaves out, since they are the same in all rows.
    """

    _metadata: ClassVar[list[str]] = ["figure", "constants"]
    figure: str = ""
    constants: Mapping[str, Any] = {}

    @property
    def _constructor(self) -> type[ResultTable]:
        return ResultTable

    def show(self) -> Any:
        """The table as a matplotlib figure.

        Raises:
            InputError: no figure draws this table, or the columns or rows that it needs are gone.
        """
        from neva_tl.core.errors import InputError
        from neva_tl.plots.files import FIGURES

        if self.figure not in FIGURES:
            raise InputError(f"no figure draws this table: neva_tl.plots has {', '.join(FIGURES)}")
        missing = {name: x for name, x in self.constants.items() if name not in self.columns}
        return FIGURES[self.figure].draw(pd.DataFrame(self).assign(**missing))


def showable(table: pd.DataFrame, figure: str, **constants: Any) -> ResultTable:
    """The table with a `.show()` that draws one of `neva_tl.plots.FIGURES`; its `attrs` stay."""
    out = ResultTable(table)
    out.attrs.update(table.attrs)
    out.figure, out.constants = figure, constants
    return out
