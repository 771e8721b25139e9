"""Tables that draw themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

from neva_tl.core.errors import InputError


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
