"""Notebook display: HTML cards, all text escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neva_tl.core.formatting import format_fact

if TYPE_CHECKING:  # the command line completes names without pandas
    import pandas as pd

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
