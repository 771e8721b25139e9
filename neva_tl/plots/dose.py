"""Gain, leakage and invalid rate of a method as its dose grows."""

from __future__ import annotations

import math
from typing import Unpack

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from neva_tl.plots.canvas import Look, Sheet, own_axes, page_width, ticks_that_fit, wrap
from neva_tl.plots.style import (
    condition_label,
    conditions,
    literal,
    method_code,
    method_colour,
    need,
    of_condition,
    short,
    styled,
)

COLUMNS = ("method", "steered", "dose", "gain", "leakage", "invalid")
#: The search for a dose records the plain mean of max(0, D), the run's other tables the cross-fitted one.
PLAIN, FITTED = "plain leakage", "leakage"
MEASURES = ("gain", "leakage", "invalid")


def pick_split(df: pd.DataFrame, split: str | None = None) -> pd.DataFrame:
    """Return the rows of one split.

    By default it is `test` where present, else the split with most rows.
    """
    if "split" not in df.columns or df["split"].nunique() <= 1:
        return df
    counts = df["split"].value_counts()
    selected = split or ("test" if "test" in counts.index else str(counts.index[0]))
    return df[df["split"] == selected]


def mean_over_values(rows: pd.DataFrame, column: str) -> pd.Series:
    """Average over steered values at each dose that half of the values share.

    A bracketing search visits other doses for each value; a mean over those would compare different values.
    """
    per_value = rows.groupby(["dose", "steered"])[column].mean().dropna()
    counts = per_value.groupby("dose").size()
    common = counts.index[counts >= max(1, rows["steered"].nunique() / 2)]
    return per_value.groupby("dose").mean().loc[common].sort_index()


def leakage_name(df: pd.DataFrame) -> str:
    """Return the name of a table's leakage: `leakage` where its column `crossfitted` says so, else `plain leakage`."""
    return FITTED if "crossfitted" in df.columns and df["crossfitted"].astype(bool).all() else PLAIN


def _leakage_note(name: str) -> str:
    return "plain leakage: not cross-fitted, so higher than the leakage of the tables" if name == PLAIN else ""


@styled
def dose_response(df: pd.DataFrame, *, split: str | None = None, **look: Unpack[Look]) -> Figure:
    """Draw gain, leakage and invalid rate against dose, a column per condition.

    The leakage is named plain unless the table's column `crossfitted` is true (that of `nv.dose_response`).

    Conditions do not share an axis, because their doses have no common unit. Heavy line: mean over steered values at doses
    that at least half of them share; thin lines: single values; crosses: inadmissible doses (too many invalid texts).

    Args:
        df: table `dose`: method, gate, steered, dose, gain, leakage, invalid; optionally admissible, split, crossfitted.
        split: name of a split; by default `test` where present, else the one with most rows.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> table = nv.plots.read_table(run, "dose")
        >>> figure = nv.plots.dose_response(table)
    """
    df = need(df, COLUMNS, "dose")
    df = pick_split(df, split)
    panels = conditions(df.assign(target_gain=np.nan))
    # a search whose judge reads the target value alone has no leakage to draw
    labels = {"gain": "gain", "leakage": leakage_name(df), "invalid": "invalid rate"}
    measures = [(column, labels[column]) for column in MEASURES if df[column].notna().any()]
    width = page_width()
    across = len(panels) if own_axes() else min(len(panels), max(1, int((width - 0.5) / (0.85 if width < 4 else 1.05))))
    bands = math.ceil(len(panels) / across)
    across = math.ceil(len(panels) / bands)
    panel = (width - 0.6) / across
    size = float(mpl.rcParams["axes.labelsize"])
    titles = [wrap(_title(one), panel - 0.1, size, "bold") for one in panels]
    lines = max(title.count("\n") for title in titles) + 1
    tall = 1.25 if bands == 1 else 0.95
    height = 0.6 + bands * (0.35 + 0.14 * lines + tall * len(measures))
    sheet = Sheet(height, bands * len(measures), across, used=None if not own_axes() else len(measures) * len(panels))
    grid = _folded(sheet, len(measures), len(panels), across)
    for column_index, condition in enumerate(panels):
        rows = of_condition(df, condition)
        colour = method_colour(condition[0])
        for index, (column, label) in enumerate(measures):
            ax = grid[index, column_index]
            ax.axhline(0, color="#cccccc", linewidth=0.7, zorder=0)
            for _, single in rows.groupby("steered"):
                line = single.groupby("dose")[column].mean().dropna()
                ax.plot(line.index, line, color=colour, linewidth=0.6, alpha=0.3, zorder=1)
            mean = mean_over_values(rows, column)
            ax.plot(
                mean.index, mean, color=colour, markersize=2.8, zorder=3, marker=method_code(condition[0])["marker"]
            )
            if "admissible" in rows.columns:
                bad = rows[~rows["admissible"].astype(bool)]
                ax.plot(bad["dose"], bad[column], "x", color="#222222", markersize=3.2, markeredgewidth=0.7, zorder=4)
            if column_index % across == 0:
                ax.set_ylabel(wrap(label, tall, size))
            elif sheet.own:
                ax.tick_params(labelleft=False)
            dose_axis(ax, rows["dose"].to_numpy(dtype=float), ticks_that_fit(panel))
            if sheet.own and index < len(measures) - 1:
                ax.tick_params(labelbottom=False)
        grid[-1, column_index].set_xlabel("dose")
        grid[0, column_index].set_title(titles[column_index], fontsize=size)
    for row, (measure, _) in enumerate(measures):
        _equal_heights(list(grid[row]), -0.02 if measure == "invalid" else None)
    suffix = f" · {df['split'].iloc[0]} prompts" if "split" in df.columns else ""
    thin = "heavy: mean over values · thin: one value · " if df["steered"].nunique() > 1 else ""
    note = _leakage_note(labels["leakage"]) if "leakage" in dict(measures) else ""
    sheet.note(f"{thin}×: inadmissible dose{suffix} · doses have no common unit\n{note}".rstrip())
    return sheet.figure


def _folded(sheet: Sheet, measures: int, panels: int, across: int) -> np.ndarray:
    """Axes by measure and condition; bands of conditions follow each other down the sheet."""
    if not sheet.own:
        return np.array(sheet.axes, dtype=object).reshape(measures, panels)
    grid = np.empty((measures, panels), dtype=object)
    for index in range(sheet.grid.shape[0] // measures * across):
        band, column = divmod(index, across)
        for row in range(measures):
            ax = sheet.grid[band * measures + row, column]
            if index < panels:
                grid[row, index] = ax
            else:
                ax.remove()
    return grid


def _equal_heights(axes: list[Axes], bottom: float | None) -> None:
    """Give the panels of one measure the same limits."""
    limits = np.array([ax.get_ylim() for ax in axes])
    for ax in axes:
        ax.set_ylim(limits[:, 0].min() if bottom is None else bottom, limits[:, 1].max())


def _title(condition: tuple[str, str, float]) -> str:
    return literal(condition_label(*condition)).replace(" · ", "\n", 1)


def dose_axis(ax: Axes, doses: np.ndarray, most: int = 5) -> None:
    """Scale the x axis to the doses.

    The scale is that of odds where doses near 1, logarithmic where they span a factor of eight, else linear.
    """
    doses = np.unique(doses[np.isfinite(doses)])
    if len(doses) == 0:
        return
    if doses.min() > 0 and doses.max() < 1 and doses.max() > 0.97:
        # probabilities such as .9, .99, .999 are equal steps in the odds
        ax.set_xscale("logit", one_half="½")
        ax.xaxis.set_major_locator(FixedLocator(_thin(doses, min(most, 4))))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x, 5)))
    elif doses.min() > 0 and doses.max() / doses.min() >= 8:
        ax.set_xscale("log", base=2)
        powers = np.arange(np.floor(np.log2(doses.min())), np.ceil(np.log2(doses.max())) + 1)
        ax.xaxis.set_major_locator(FixedLocator((2.0 ** powers[:: max(1, int(np.ceil(len(powers) / most)))]).tolist()))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x, 3)))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(nbins=most))


def _thin(doses: np.ndarray, most: int = 4) -> list[float]:
    indices = np.unique(np.linspace(0, len(doses) - 1, min(most, len(doses))).round().astype(int))
    return [float(dose) for dose in doses[indices]]


@styled
def gain_leakage(df: pd.DataFrame, *, split: str | None = None, **look: Unpack[Look]) -> Figure:
    """Draw leakage against gain as the dose grows, all methods on one pair of axes.

    A point is the mean over steered values at one dose (see `mean_over_values`); lower and further right is better.
    A point is hollow where over half of the values are inadmissible.

    Args:
        df: table `dose`: see `dose_response`.
        split: See `dose_response`.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> figure = nv.plots.gain_leakage(nv.plots.read_table(run, "dose"))
    """
    df = need(df, COLUMNS, "dose")
    df = pick_split(df, split)
    # further right the figure would be flat: a scatter of two measures is best near a square
    sheet = Sheet(min(4.2, 0.75 * page_width() + 0.9))
    ax = sheet.ax
    ax.axhline(0, color="#cccccc", linewidth=0.7, zorder=0)
    panels, handles = conditions(df.assign(target_gain=np.nan)), []
    for condition in panels:
        rows = of_condition(df, condition)
        colour = method_colour(condition[0])
        code = method_code(condition[0])
        gain, leakage = mean_over_values(rows, "gain"), mean_over_values(rows, "leakage")
        shared_doses = gain.index.intersection(leakage.index)
        ax.plot(
            gain[shared_doses],
            leakage[shared_doses],
            linestyle=code["linestyle"],
            color=colour,
            linewidth=1.2,
        )
        handles.append(Line2D([], [], color=colour, linewidth=1.2, markersize=3.5, **code))
        admissible = np.ones(len(shared_doses), dtype=bool)
        if "admissible" in rows.columns:
            admissible = (
                mean_over_values(rows.assign(admissible=rows["admissible"].astype(float)), "admissible")[
                    shared_doses
                ].to_numpy()
                >= 0.5
            )
        ax.scatter(
            gain[shared_doses],
            leakage[shared_doses],
            s=14,
            marker=code["marker"],
            facecolors=[colour if ok else "white" for ok in admissible],
            edgecolors=colour,
            zorder=3,
        )
    name = leakage_name(df)
    ax.set_xlabel("gain (mean over values)")
    ax.set_ylabel(f"{name} (mean over values)")
    suffix = f" ({df['split'].iloc[0]})" if "split" in df.columns else ""
    sheet.title(f"Leakage against gain as the dose grows{suffix}", loc="left")
    if df["leakage"].isna().all():
        ax.text(0.5, 0.5, "not measured: the judge scored the steered value alone", transform=ax.transAxes, ha="center")
    sheet.legend(handles, [literal(condition_label(*condition)) for condition in panels])
    hollow = "hollow: most values inadmissible" if "admissible" in df.columns else ""
    sheet.note("\n".join(line for line in (hollow, _leakage_note(name)) if line))
    return sheet.figure
