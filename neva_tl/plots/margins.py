"""Effects of neurons on the margins of values, layer by layer."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from neva_tl.plots.canvas import Look
from neva_tl.plots.style import literal, need, new_figure, styled


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
    figure = new_figure(2.6 + 0.16 * wide.shape[1], 1.0 + 0.24 * len(values))
    ax = figure.subplots()
    image = ax.imshow(wide.to_numpy(dtype=float), aspect="auto", cmap="viridis", vmin=0.0)
    ax.set_yticks(np.arange(len(values)), [literal(value) for value in values])
    ax.set_xlabel("layer")
    figure.colorbar(image, ax=ax, label="nats per token and unit")
    return figure
