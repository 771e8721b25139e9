"""Change of CSR and loss when the value neurons of one layer at a time are edited."""

from __future__ import annotations

from typing import Unpack

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import t as student

from neva_tl.plots.canvas import Look, Sheet, page_width, ticks_that_fit, wrap
from neva_tl.plots.palette import code, replaced
from neva_tl.plots.style import need, present_values, styled, value_colour

COLUMNS = ("value", "layer", "operation", "group", "d_csr", "lo", "hi")
GROUPS = {
    "selected": ("selected neurons", "#12679e"),
    "all": ("all neurons of the layer", "#3c3c3c"),
    "random": ("random neurons", "#8a8a8a"),
}
OPERATIONS = {"zero": "ablate to zero", "mean": "ablate to mean", "amplify": "amplify"}


@styled
def layer_ablation(df: pd.DataFrame, **look: Unpack[Look]) -> Figure:
    """Draw the change of CSR and of loss when one layer is edited.

    A column is an operation, a line a group of neurons.

    Lines are means over values, bands 95 % t intervals over the values (so they cover values, not prompts); small dots
    are single values in their circle colours, for the selected group only. With one value in the table the bands are
    its `lo` to `hi`, which cover prompts.

    Args:
        df: table `layers`: value, layer, operation (zero | mean | amplify), group (selected | all | random), d_csr, lo,
            hi; optionally d_loss (nats, on neutral text).
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> table = pd.DataFrame({"value": "power", "layer": [0, 1], "operation": "zero", "group": "selected"})
        >>> table = table.assign(n_neurons=8, d_csr=[-0.1, -0.3], lo=[-0.2, -0.4], hi=[0.0, -0.2], d_loss=0.01)
        >>> figure = nv.plots.layer_ablation(table)
    """
    df = need(df, COLUMNS, "layers")
    operations = [name for name in OPERATIONS if name in set(df["operation"])]
    operations += [name for name in df["operation"].unique() if name not in operations]
    measures = [("d_csr", "change of CSR")]
    if "d_loss" in df.columns and df["d_loss"].notna().any():
        measures.append(("d_loss", "change of loss, nats"))
    panel = (page_width() - 0.6) / len(operations)
    tall = 1.25 if page_width() < 4 else 1.75
    sheet = Sheet(0.75 + tall * len(measures), len(measures), len(operations), sharex=True, sharey="row")
    grid = sheet.grid
    groups = [name for name in GROUPS if name in set(df["group"])]
    groups += [name for name in df["group"].unique() if name not in groups]
    for row_index, (column, label) in enumerate(measures):
        for column_index, operation in enumerate(operations):
            ax = grid[row_index, column_index]
            ax.axhline(0, color="#bbbbbb", linewidth=0.7, zorder=0)
            for group in groups:
                rows = df[(df["operation"] == operation) & (df["group"] == group)]
                if len(rows):
                    _line(ax, rows, column, group)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=min(8, ticks_that_fit(panel - 0.1, 0.25))))
            if row_index == 0:
                sheet.title(OPERATIONS.get(operation, operation), ax, room=0.6, columns=len(operations))
            if column_index == 0:
                ax.set_ylabel(wrap(label, tall - 0.3, float(mpl.rcParams["axes.labelsize"])))
            if row_index == len(measures) - 1:
                ax.set_xlabel("layer")
    handles, labels = [], []
    for ax in grid.flat:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            if name not in labels:
                handles.append(handle)
                labels.append(name)
    sheet.legend(handles, labels)
    several = df["value"].nunique() > 1
    about = "over values · dots: single values (selected neurons)" if several else "over prompts"
    sheet.note(f"bands: 95 % intervals {about}")
    return sheet.figure


def _line(ax: Axes, rows: pd.DataFrame, column: str, group: str) -> None:
    label, colour = GROUPS.get(group, (group, "#a05195"))
    colour = replaced(group, colour)
    values = present_values(rows["value"])
    wide = rows.pivot_table(index="layer", columns="value", values=column, aggfunc="mean").sort_index()
    if wide.empty:
        return
    mean, layers = wide.mean(axis=1), wide.index.to_numpy()
    ax.plot(
        layers,
        mean,
        markersize=2.6,
        color=colour,
        label=label,
        zorder=3,
        **code(list(GROUPS).index(group) if group in GROUPS else 3),
    )
    if len(values) > 1:
        n = wide.notna().sum(axis=1)
        half = student.ppf(0.975, np.maximum(n - 1, 1)) * wide.std(axis=1) / np.sqrt(n)
        ax.fill_between(layers, mean - half, mean + half, color=colour, alpha=0.16, linewidth=0)
        if group == "selected":
            for name in values:
                ax.plot(layers, wide[name], ".", markersize=2.2, color=value_colour(name), alpha=0.75, zorder=2)
    elif column == "d_csr":
        interval = rows.groupby("layer")[["lo", "hi"]].mean().reindex(layers)
        ax.fill_between(layers, interval["lo"], interval["hi"], color=colour, alpha=0.16, linewidth=0)
