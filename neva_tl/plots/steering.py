"""One steering: gain against dose on validation pairs, and the change of every measured concept on test pairs."""

from __future__ import annotations

from typing import Unpack

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from neva_tl.plots.canvas import MUTED, Look, Sheet, own_axes, page_width, small, wrap
from neva_tl.plots.style import literal, need, styled

GAIN, OTHER, FAINT = "#12679e", "#c4502f", "#bbbbbb"


@styled
def steering_plot(
    curve: pd.DataFrame,
    effects: pd.DataFrame,
    *,
    value: str,
    dose: float | None = None,
    target: float | None = None,
    unit: str = "",
    title: str = "",
    **look: Unpack[Look],
) -> Figure:
    """Draw the search for the dose beside the change of each concept at that dose.

    Args:
        curve: dose, gain, admissible: every dose tried on validation pairs.
        effects: measured, d, lo, hi: change of each concept on test pairs.
        value: the concept that is steered towards.
        dose: the dose of the edit; None marks none.
        target: the requested gain; None marks none.
        unit: unit of the gain.
        title: text above the axes.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or a table is empty.
    """
    curve = need(curve, ("dose", "gain", "admissible"), "doses").sort_values("dose")
    effects = need(effects, ("measured", "d", "lo", "hi"), "effects").reset_index(drop=True)
    order = sorted(range(len(effects)), key=lambda i: (effects["measured"][i] != value, i))
    height = max(2.3, 0.9 + 0.24 * len(effects))
    wide = page_width() > 4 or own_axes() is not None
    sheet = Sheet(*((height, 1, 2) if wide else (2.0 + height, 2, 1)))
    left, right = sheet.axes
    left.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
    if target is not None:
        left.axhline(target, color=FAINT, linewidth=0.9, linestyle=(0, (3, 2)), zorder=0)
        left.annotate(f"target {target:g}", (0.02, target), xycoords=("axes fraction", "data"), fontsize=small(),
                      color=MUTED, va="bottom")  # fmt: skip
    left.plot(curve["dose"], curve["gain"], color=GAIN, linewidth=1.2, zorder=2)
    good = curve["admissible"].to_numpy(dtype=bool)
    left.plot(curve["dose"][good], curve["gain"][good], "o", color=GAIN, markersize=3.5, zorder=3)
    left.plot(curve["dose"][~good], curve["gain"][~good], "x", color=GAIN, markersize=4.5, zorder=3)
    if dose is not None and (at := curve[np.isclose(curve["dose"], dose)]).shape[0]:
        left.plot(at["dose"], at["gain"], "o", markersize=8, markerfacecolor="none", color=OTHER, zorder=4)
    left.set_xlabel("dose" if good.all() else "dose (×: texts break)")
    left.set_ylabel("gain on validation pairs")
    right.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
    for y, i in enumerate(order):
        row = effects.loc[i]
        colour = GAIN if row["measured"] == value else OTHER
        ends = effects.loc[i, ["lo", "hi"]].to_numpy(dtype=float)
        if np.isfinite(ends).all():
            right.plot(ends, [y, y], color=colour, linewidth=1.4, solid_capstyle="butt", zorder=2)
        right.plot([row["d"]], [y], "o", color=colour, markersize=4, zorder=3)
    right.set_yticks(
        range(len(order)),
        [wrap(literal(str(effects["measured"][i])), 1.2, float(mpl.rcParams["ytick.labelsize"])) for i in order],
    )
    right.set_ylim(len(order) - 0.5, -0.5)
    right.tick_params(axis="y", length=0)
    label = literal(f"change on test pairs ({unit})" if unit else "change on test pairs")
    right.set_xlabel(
        wrap(label, (sheet.width / 2 if wide else sheet.width) - 1.0, float(mpl.rcParams["axes.labelsize"]))
    )
    if title:
        sheet.heading(literal(title), x=0.01, ha="left")
    return sheet.figure
