"""Effect size against p-value for every neuron."""

from __future__ import annotations

import math
from typing import Unpack

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neva_tl.plots.canvas import Look, Sheet, own_axes, page_width, ticks_that_fit
from neva_tl.plots.journal import SMALLEST
from neva_tl.plots.palette import ink
from neva_tl.plots.style import FAINT, GREY, halo, need, present_values, short, styled, value_colour

COLUMNS = ("value", "layer", "neuron", "g", "p", "selected")


@styled
def effect_volcano(
    effects: pd.DataFrame, *, columns: int = 5, label: int = 2, alpha: float = 0.05, **look: Unpack[Look]
) -> Figure:
    """Draw effect size g against -log10 p, one panel per value.

    With the same number of texts for every neuron, as with a study's pairs, p is a function of g and the picture shows the
    selection alone; runs therefore do not draw it. Selected neurons have the value's colour. The dashed line is the largest p
    whose q is still below `alpha` (false discovery rate). p-values of 0 are triangles on the panel's upper edge, at a tenth of
    the smallest p above 0.

    Args:
        effects: table `effects`: value, layer, neuron, g, p, q, selected.
        columns: panels side by side.
        label: number of labelled neurons per panel, those of largest |g| among the selected.
        alpha: FDR level of the dashed line.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> table = nv.plots.read_table(run, "effects")
        >>> figure = nv.plots.effect_volcano(table)
    """
    effects = need(effects, COLUMNS, "effects")
    values = present_values(effects["value"])
    across = min(columns, len(values))
    down = math.ceil(len(values) / across)
    side = 1.75 if len(values) > 2 else 2.4
    if own_axes() is None:
        across = min(across, max(1, int((page_width() - 0.5) / 1.2)))
        down = math.ceil(len(values) / across)
    panel = (page_width() - 0.5) / across
    sheet = Sheet(0.7 + min(side, 1.2 * panel) * down, down, across, used=len(values), sharex=True, sharey=True)
    grid = sheet.grid
    positive = effects.loc[effects["p"] > 0, "p"]
    floor = float(positive.min()) / 10 if len(positive) else 1e-6
    widest = float(effects["g"].abs().max())
    for name, ax in zip(values, sheet.axes, strict=True):
        rows = effects[effects["value"] == name]
        height = -np.log10(rows["p"].clip(lower=floor))
        selected, capped = rows["selected"].astype(bool), rows["p"] <= 0
        colour = value_colour(name)
        for mask, marker, size, tint, depth in (
            (~selected & ~capped, ".", 5, FAINT, 1),
            (~selected & capped, "^", 9, FAINT, 1),
            (selected & ~capped, "o", 8, colour, 3),
            (selected & capped, "^", 12, colour, 3),
        ):
            # viewers are slow on a PDF with thousands of vector points: the cloud is one image
            ax.scatter(
                rows.loc[mask, "g"],
                height[mask],
                s=size,
                marker=marker,
                color=tint,
                linewidths=0,
                zorder=depth,
                rasterized=True,
            )
        ax.axvline(0, color="#cccccc", linewidth=0.6, zorder=0)
        if "q" in rows.columns and (rows["q"] <= alpha).any():
            line = float(rows.loc[rows["q"] <= alpha, "p"].max())
            if line > 0:
                ax.axhline(-np.log10(line), color=GREY, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
        ax.set_title(f"{name} · {int(selected.sum())}", color=ink(colour), fontsize=mpl.rcParams["legend.fontsize"])
        ax.xaxis.set_major_locator(MaxNLocator(nbins=ticks_that_fit(panel)))
        _labels(ax, rows[selected].assign(height=height[selected]), label, widest)
    for ax in sheet.axes[-across:]:
        ax.set_xlabel("effect size g")
        ax.tick_params(labelbottom=True)
    for ax in grid[:, 0]:
        ax.set_ylabel("−log₁₀ p")
    grid[0, 0].set_xlim(-1.12 * widest, 1.12 * widest)
    grid[0, 0].set_ylim(bottom=0)
    grid[0, 0].margins(y=0.12)
    sheet.note(
        f"coloured: selected (count in the title) · dashed: false discovery rate {short(alpha)} · ▲: p rounds to 0"
    )
    return sheet.figure


def _labels(ax: Axes, selected: pd.DataFrame, count: int, widest: float) -> None:
    """Label the neurons of largest |g|.

    Labels are towards the middle, moved apart where they would collide.
    """
    best = selected.reindex(selected["g"].abs().sort_values(ascending=False).index).head(count)
    labels: list[tuple[float, float]] = []
    for row in best.itertuples():
        g, height = float(row.g), float(row.height)  # type: ignore[arg-type]
        side = "right" if g > 0 else "left"
        lowered = height
        while any(
            (g > 0) == (other_g > 0) and abs(lowered - other_height) < 0.09 * max(float(selected["height"].max()), 1e-9)
            for other_g, other_height in labels
        ):
            lowered -= 0.045 * max(float(selected["height"].max()), 1e-9)
        labels.append((g, lowered))
        halo(
            ax.annotate(
                f"L{int(row.layer)}.{int(row.neuron)}",  # type: ignore[arg-type]
                (g, height),
                xytext=(g - math.copysign(0.06 * widest, g), lowered),
                ha=side,
                va="center",
                fontsize=SMALLEST,
                color="#333333",
                zorder=2,
            )
        )
