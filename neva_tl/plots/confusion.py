"""A judge's mixing matrix, and leakage before and after its correction."""

from __future__ import annotations

from typing import Unpack

import pandas as pd
from matplotlib.figure import Figure

from neva_tl.plots.canvas import Look
from neva_tl.plots.heatmap import draw_heatmaps, leakage_heatmap
from neva_tl.plots.style import method_label, need, styled


def corrected_heatmaps(df: pd.DataFrame, **look: Unpack[Look]) -> Figure:
    """Draw raw and corrected leakage on one colour scale, a row per method.

    Args:
        df: table `leakage_corrected`: method, steered, measured, d, lo, hi, corrected, corrected_lo, corrected_hi.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> table = nv.plots.read_table(run, "leakage")
        >>> table = table.assign(corrected=0.9 * table["d"], corrected_lo=table["lo"], corrected_hi=table["hi"])
        >>> figure = nv.plots.corrected_heatmaps(table)
    """
    raw = ("d", "lo", "hi")
    corrected = ("corrected", "corrected_lo", "corrected_hi")
    df = need(df, ("method", "steered", "measured", *raw, *corrected), "leakage_corrected")
    tables = []
    for method, rows in df.groupby("method", sort=False):
        names = rows[["steered", "measured"]]
        for label, columns in (("raw", raw), ("corrected", corrected)):
            levels = rows[list(columns)].set_axis(list(raw), axis=1)
            tables.append(pd.concat([names, levels], axis=1).assign(method=f"{method_label(str(method))}, {label}"))
    figure: Figure = leakage_heatmap(pd.concat(tables, ignore_index=True), columns=2, **look)
    return figure


@styled
def mixing_heatmap(df: pd.DataFrame, **look: Unpack[Look]) -> Figure:
    """Draw the mixing matrix of a judge.

    A cell is the rise of a value's score (column) with each true value (row), the other true values fixed.

    Args:
        df: table `judge_mixing`: judge, true, measured, m, lo, hi.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> names = nv.theories.SCHWARTZ.names
        >>> rows = [("wordlist", a, b, 0.8 * (a == b), 0.0, 0.9) for a in names for b in names]
        >>> table = pd.DataFrame(rows, columns=["judge", "true", "measured", "m", "lo", "hi"])
        >>> figure = nv.plots.mixing_heatmap(table)
    """
    df = need(df, ("judge", "true", "measured", "m", "lo", "hi"), "judge_mixing")
    table = df.rename(columns={"judge": "method", "true": "steered", "m": "d"})
    return draw_heatmaps(
        table, rows="truly there", cell=("M", "rise of the measured score"), outlined="the value itself"
    )
