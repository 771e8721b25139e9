"""Where value neurons live: a heatmap of values by layers."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from neva_tl.plots.canvas import Look, Sheet, small
from neva_tl.plots.layer_profile import layer_counts, pick_method
from neva_tl.plots.overlap import GROUND
from neva_tl.plots.palette import on
from neva_tl.plots.style import colour_value_ticks, literal, method_label, need, present_values, styled

COLUMNS = ("value", "layer")
#: Layers up to which the cells hold their counts.
MOST_WITH_COUNTS = 12


@styled
def value_layers_plot(
    neurons: pd.DataFrame, *, n_layers: int | None = None, method: str | None = None, **look: Unpack[Look]
) -> Figure:
    """Draw the share of each value's selected neurons per layer.

    Rows are values in the order of their theory; the cells of a row add up to 1. Cells hold the number of neurons where the
    model has at most twelve layers. An empty cell is a layer without a selected neuron.

    Args:
        neurons: table `neurons`: value, layer; optionally method.
        n_layers: layers of the model; by default from the table's `attrs["n_layers"]` (set by `read_table`), else up to the
            last with a selected neuron.
        method: name of a selector in a table of several; by default `neva`, else the first.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> figure = nv.plots.value_layers_plot(nv.plots.read_table(run, "neurons"))
    """
    layers = n_layers or neurons.attrs.get("n_layers")
    df = pick_method(need(neurons, COLUMNS, "neurons"), method)
    layers = int(layers or df["layer"].max() + 1)
    values = present_values(df["value"])
    counts = np.array(list(layer_counts(df, values, layers).values()))
    share = counts / counts.sum(axis=1, keepdims=True)
    sheet = Sheet(1.15 + 0.2 * len(values))
    ax = sheet.ax
    image = ax.imshow(
        np.where(counts > 0, share, np.nan),
        cmap=GROUND,
        vmin=0,
        vmax=share.max(),
        aspect="auto",
        interpolation="nearest",
    )
    if layers <= MOST_WITH_COUNTS:
        for (row, layer), count in np.ndenumerate(counts):
            if count:
                colour = on(GROUND(share[row, layer] / share.max()))
                ax.text(layer, row, f"{count}", ha="center", va="center", fontsize=small(), color=colour)
    ax.set_yticks(range(len(values)), [literal(name) for name in values])
    colour_value_ticks(ax, "y")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=min(layers, 12)))
    ax.set_xlabel("layer")
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_color("#c8ccd0")
        spine.set_visible(True)
    bar = sheet.figure.colorbar(image, ax=ax, aspect=14, pad=0.02)
    bar.set_label("share of the value's neurons" if len(values) > 3 else "share")
    bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=4))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.0f} %"))
    bar.outline.set_visible(False)  # type: ignore[operator]
    selector = f", selector {literal(method_label(str(df['method'].iloc[0])))}" if "method" in df.columns else ""
    sheet.title(f"Where value neurons live{selector}", loc="left")
    return sheet.figure
