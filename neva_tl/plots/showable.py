"""Tables that draw themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

from neva_tl.core.cards import card
from neva_tl.core.errors import InputError


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

    def __repr__(self) -> str:
        sizes = ("display.max_rows", 8, "display.max_columns", 10, "display.max_colwidth", 32)
        with pd.option_context(*sizes, "display.expand_frame_repr", False):
            return super().__repr__()

    def _repr_html_(self) -> str:
        title = self.figure.replace("_", " ").capitalize() or "Table"
        return card(
            title, {"rows": len(self), **{str(name): fact for name, fact in self.attrs.items()}}, pd.DataFrame(self)
        )

    def show(self) -> Any:
        """Draw the table as a matplotlib figure.

        Raises:
            InputError: No figure draws this table, or columns or rows that the figure needs are missing.
        """
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
