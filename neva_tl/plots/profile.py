"""A value profile around the circle of its theory, before and after an edit."""

from __future__ import annotations

from typing import Unpack

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from neva_tl.plots.canvas import MUTED, Look, Sheet, page_width, widest
from neva_tl.plots.circle import angle_of
from neva_tl.plots.journal import SMALLEST
from neva_tl.plots.palette import code, ink
from neva_tl.plots.style import literal, need, styled, value_colour

COLUMNS = ("value", "before", "before_lo", "before_hi")
SIDES = {"before": "#8a8a8a", "after": "#12679e"}


@styled
def profile_plot(df: pd.DataFrame, *, title: str = "", axis: str = "", **look: Unpack[Look]) -> Figure:
    """Draw scores with whiskers as a closed line around the circle.

    A second line is the profile after the edit.

    Values without angles are at equal steps. The radius starts somewhat below the smallest number, not at 0, because
    profiles differ by little; the rings are labelled.

    Args:
        df: value, before, before_lo, before_hi; optionally after, after_lo, after_hi.
        title: text above the circle.
        axis: unit of the scores, in words.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> table = pd.DataFrame({"value": nv.theories.SCHWARTZ.names, "before": 0.3, "before_lo": 0.2, "before_hi": 0.4})
        >>> figure = nv.plots.profile_plot(table, axis="agreement")
    """
    df = need(df, COLUMNS, "profile")
    sides = [name for name in SIDES if name in df.columns]
    columns = [f"{side}{end}" for side in sides for end in ("", "_lo", "_hi")]
    numbers = df[columns].to_numpy(dtype=float)
    low, high = (float(np.nanmin(numbers)), float(np.nanmax(numbers))) if np.isfinite(numbers).any() else (0.0, 1.0)
    pad = 0.15 * max(high - low, 1e-6)
    names = widest(map(str, df["value"]), float(mpl.rcParams["xtick.labelsize"]), "bold")
    sheet = Sheet(min(4.5, page_width() - 1.4 * names + 1.3), subplot_kw={"projection": "polar"})
    ax = sheet.ax
    ax.set_theta_zero_location("N")  # type: ignore[attr-defined]
    ax.set_theta_direction(-1)  # type: ignore[attr-defined]
    angles = np.radians([angle_of(str(name)) for name in df["value"]])
    order = np.append(np.argsort(angles), np.argmin(angles))
    for index, side in enumerate(sides):
        # an offset keeps the whiskers of the two sides apart
        shifted = angles + (0.04 * (2 * index - 1) if len(sides) > 1 else 0.0)
        score = df[side].to_numpy(dtype=float)
        ax.plot(shifted[order], score[order], color=SIDES[side], linewidth=1.2, markersize=3, label=side, **code(index))
        for angle, lo, hi in zip(shifted, df[f"{side}_lo"].astype(float), df[f"{side}_hi"].astype(float), strict=True):
            if np.isfinite(lo) and np.isfinite(hi):
                ax.plot([angle, angle], [lo, hi], color=SIDES[side], linewidth=1.0, alpha=0.7)
    ax.set_ylim(low - 2 * pad, high + pad)
    ax.set_xticks(angles, [str(name) for name in df["value"]])
    for tick, angle, name in zip(ax.get_xticklabels(), angles, df["value"], strict=True):
        across = float(np.sin(angle))
        tick.set_horizontalalignment("center" if abs(across) < 0.1 else "left" if across > 0 else "right")
        tick.set_color(ink(value_colour(str(name))))
        tick.set_fontweight("bold")
    ax.tick_params(axis="x", pad=3)
    ax.tick_params(axis="y", labelsize=SMALLEST, colors=MUTED)
    ax.grid(color="#e2e2e2", linewidth=0.6)
    ax.spines["polar"].set_color("#cccccc")
    if len(sides) > 1:
        sheet.legend(*ax.get_legend_handles_labels())
    if title or axis:
        sheet.title(literal(f"{title} ({axis})" if title and axis else title or axis), room=0.2, pad=16)
    return sheet.figure
