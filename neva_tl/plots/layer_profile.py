"""Number of selected neurons of each value per layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neva_tl.plots.canvas import MUTED, Look, Sheet, small, ticks_that_fit, widest
from neva_tl.plots.palette import ink
from neva_tl.plots.style import literal, method_label, need, present_values, short, styled, value_colour


def pick_method(neurons: pd.DataFrame, method: str | None = None) -> pd.DataFrame:
    """Return the rows of one selector.

    By default it is `neva` where present, else the first in the table.
    """
    if "method" not in neurons.columns or neurons["method"].nunique() <= 1:
        return neurons
    names = [str(name) for name in neurons["method"].unique()]
    selected = method or ("neva" if "neva" in names else names[0])
    return neurons[neurons["method"].astype(str) == selected]


def layer_counts(df: pd.DataFrame, values: Iterable[str], layers: int) -> dict[str, np.ndarray]:
    """Count each value's neurons per layer.

    Args:
        df: table `neurons` of one selector: value, layer.
        values: the values, in the order of the result.
        layers: layers of the model.
    """
    return {name: np.bincount(df.loc[df["value"] == name, "layer"].astype(int), minlength=layers) for name in values}


@styled
def layer_profile(
    neurons: pd.DataFrame, *, n_layers: int | None = None, method: str | None = None, **look: Unpack[Look]
) -> Figure:
    """Draw the number of selected neurons per layer, one row per value.

    The deeper the colour of a bar, the larger the median |g| of the layer's neurons.

    Args:
        neurons: table `neurons` (or a `NeuronSet.df` with a `value` column): value, layer; optionally g.
        n_layers: layers of the model; by default up to the last with a selected neuron.
        method: name of a selector in a table of several; by default `neva`, else the first.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> figure = nv.plots.layer_profile(nv.plots.read_table(run, "neurons"), n_layers=4)
    """
    neurons = need(neurons, ("value", "layer"), "neurons")
    df = pick_method(neurons, method)
    values = present_values(df["value"])
    layers = n_layers or int(df["layer"].max()) + 1
    strengths = df["g"].abs() if "g" in df.columns else pd.Series(np.nan, index=df.index)
    medians = strengths.groupby([df["value"], df["layer"].astype(int)]).median()
    top = float(medians.max()) if medians.notna().any() else float("nan")
    counts = layer_counts(df, values, layers)
    highest = max(int(count.max()) for count in counts.values())
    row_height = 0.52 if len(values) > 1 else 1.9
    sheet = Sheet(0.9 + row_height * len(values), len(values), 1, sharex=True, sharey=True)
    axes = sheet.axes
    size = float(mpl.rcParams["axes.labelsize"])
    room = sheet.width - (widest(values, size, "bold") if len(values) > 1 else 0.2) - 1.0
    for ax, name in zip(axes, values, strict=True):
        of_value = df["value"] == name
        median = strengths[of_value].groupby(df.loc[of_value, "layer"].astype(int)).median().reindex(range(layers))
        shade = (
            np.full(layers, 1.0) if np.isnan(top) else (0.35 + 0.65 * median / top).fillna(0.35).to_numpy(dtype=float)
        )
        for layer in np.flatnonzero(counts[name]):
            ax.bar(layer, counts[name][layer], width=0.78, color=value_colour(name), alpha=shade[layer].item())
        ax.set_ylim(0, highest * 1.12)
        ax.yaxis.set_major_locator(MaxNLocator(nbins=2 if len(values) > 1 else 5, integer=True))
        ax.tick_params(axis="x", length=2.5)
        note = f"n = {int(of_value.sum())}"
        if strengths[of_value].notna().any():
            note += f"\n|g| {short(np.median(strengths[of_value].dropna()).item(), 1)}"
        ax.text(1.01, 0.5, note, transform=ax.transAxes, va="center", fontsize=small(), color=MUTED)
        if len(values) > 1:
            ax.set_ylabel(
                name, rotation=0, ha="right", va="center", color=ink(value_colour(name)), fontweight="bold", labelpad=8
            )
        else:
            ax.set_ylabel("neurons")
    axes[-1].set_xlim(-0.6, layers - 0.4)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=min(layers, 16, ticks_that_fit(room, 0.25))))
    axes[-1].set_xlabel("layer")
    sheet.note("" if np.isnan(top) else "height: neurons in the layer · deeper colour: larger median |g| of them")
    title = values[0] if len(values) == 1 else "Selected neurons per layer"
    if "method" in df.columns:
        title += f", selector {literal(method_label(str(df['method'].iloc[0])))}"
    sheet.title(title, loc="left", room=sheet.width - room)
    return sheet.figure
