"""What a figure of a run needs of its table: a circle, a second value, a measured leakage.

Each function returns the reason why a table cannot have the figure, or "" where it can. A table without the column has no
reason here: drawing it names the missing column.
"""

from __future__ import annotations

import pandas as pd

from neva_tl.plots.value_names import theory_in


def lacks_nothing(_table: pd.DataFrame) -> str:
    """Return "": every table has the figure.

    Args:
        _table: the table of a run.
    """
    return ""


def lacks_circle(table: pd.DataFrame) -> str:
    """Return the reason why there is no picture of the circle: the theory of the values has none.

    Args:
        table: table `leakage`.
    """
    if not {"measured", "steered"} <= set(table.columns):
        return ""
    theory = theory_in([*table["measured"], *table["steered"]])
    return "" if theory.has_circle else f"the theory {theory.name} has no circle"


def lacks_others(table: pd.DataFrame) -> str:
    """Return the reason why there is no matrix of leakage: one value was measured.

    Args:
        table: table `leakage`.
    """
    return "one value is measured, so there is nothing to leak to" if _has_one(table, "measured") else ""


def lacks_second_set(table: pd.DataFrame) -> str:
    """Return the reason why there is no picture of shared neurons: one value has neurons.

    Args:
        table: table `neurons`.
    """
    return "one value has neurons, so there is no other to share them with" if _has_one(table, "value") else ""


def lacks_leakage(table: pd.DataFrame) -> str:
    """Return the reason why there is no leakage against dose: the search measured the steered value alone.

    Args:
        table: table `dose`.
    """
    if "leakage" not in table.columns or table["leakage"].notna().any():
        return ""
    return "the search for a dose measured the steered value alone"


def _has_one(table: pd.DataFrame, column: str) -> bool:
    """Whether a column holds at most one value; False without the column."""
    return column in table.columns and table[column].nunique() <= 1
