"""Effects of neurons on the margins of values, layer by layer."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neva_tl.plots.canvas import Look, Sheet, ticks_that_fit
from neva_tl.plots.style import literal, need, styled


@styled
def margin_heatmap(df: pd.DataFrame, **look: Unpack[Look]) -> Figure:
    """Draw the root mean square of the margin effects, value by layer.

    Args:
        df: table of `MarginEffects`: value, layer, rms (nats per token and unit of activation).
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> table = pd.DataFrame({"value": ["power", "power"], "layer": [0, 1], "rms": [0.1, 0.3]})
        >>> figure = nv.plots.margin_heatmap(table)
    """
    df = need(df, ("value", "layer", "rms"), "margin effects")
    values = list(dict.fromkeys(df["value"]))
    wide = df.pivot(index="value", columns="layer", values="rms").loc[values]
    sheet = Sheet(0.75 + 0.22 * len(values))
    ax = sheet.ax
    image = ax.imshow(wide.to_numpy(dtype=float), aspect="auto", cmap="viridis", vmin=0.0)
    ax.set_yticks(np.arange(len(values)), [literal(value) for value in values])
    ax.set_xlabel("layer")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=ticks_that_fit(0.5 * sheet.width, 0.25)))
    sheet.figure.colorbar(image, ax=ax, label="nats per token\nand unit")
    return sheet.figure
