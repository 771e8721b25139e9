"""Numbers of neurons that values share, compared with chance."""

from __future__ import annotations

from itertools import combinations
from typing import Unpack

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from neva_tl.core.errors import InputError
from neva_tl.core.statistics import overlap
from neva_tl.plots.canvas import MUTED, Look, Sheet, page_width, widest
from neva_tl.plots.journal import SMALLEST
from neva_tl.plots.layer_profile import pick_method
from neva_tl.plots.palette import on
from neva_tl.plots.style import (
    literal,
    method_label,
    need,
    present_values,
    short,
    styled,
    value_grid,
)

COLUMNS = ("value", "layer", "neuron")
#: Family-wise level over all pairs at which an overlap differs from chance (Bonferroni).
LEVEL = 0.05
GROUND = LinearSegmentedColormap.from_list("overlap", ["#ffffff", "#cfe3ee", "#5f9fc4", "#0d4f7a"])


def overlaps(neurons: pd.DataFrame, n_neurons: int) -> pd.DataFrame:
    """Count the shared neurons of every pair of values, with the chance level.

    Args:
        neurons: value, layer, neuron of one selector.
        n_neurons: number of candidates of the selection (layers x d_mlp).

    Returns:
        One row per pair in circle order: a, b, size_a, size_b, shared, jaccard (shared / either's), expected (mean of the
        hypergeometric distribution), p_more, p_fewer (its upper and lower tail, the observed count included).

    Raises:
        InputError: A set is larger than `n_neurons`.

    Example:
        >>> table = pd.DataFrame({"value": ["power"] * 2 + ["security"] * 2, "layer": 1, "neuron": [3, 4, 4, 5]})
        >>> int(nv.plots.overlaps(table, n_neurons=1536)["shared"].max())
        1
    """
    sets = {
        str(name): set(zip(rows["layer"].astype(int), rows["neuron"].astype(int), strict=True))
        for name, rows in neurons.groupby("value")
    }
    largest = max((len(neuron_set) for neuron_set in sets.values()), default=0)
    if largest > n_neurons:
        raise InputError(f"a value has {largest} neurons, more than the model: n_neurons is {n_neurons}")
    rows = []
    for a, b in combinations(present_values(sets), 2):
        rows.append({"a": a, "b": b, **overlap(sets[a], sets[b], n_neurons)._asdict()})
    names = ["a", "b", "size_a", "size_b", "shared", "jaccard", "expected", "p_more", "p_fewer"]
    return pd.DataFrame(rows, columns=names)


@styled
def overlap_plot(
    neurons: pd.DataFrame, *, n_neurons: int | None = None, method: str | None = None, **look: Unpack[Look]
) -> Figure:
    """Draw a matrix of the neurons that values share.

    Counts are above the diagonal, Jaccard indices below, set sizes on it.

    Values are in circle order, the colour is the Jaccard index. Bold: more than expected by chance, `↓`: fewer
    (hypergeometric, 5 % over all pairs together).

    Args:
        neurons: table `neurons`: value, layer, neuron; optionally method.
        n_neurons: number of candidates of the selection (layers x d_mlp); by default from the table's
            `attrs["n_layers"] * attrs["d_mlp"]` (set by `read_table`), else from the largest layer and index in it.
        method: name of a selector in a table of several; by default `neva`, else the first.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, the table is empty, or a set is larger than the model.

    Example:
        >>> figure = nv.plots.overlap_plot(nv.plots.read_table(run, "neurons"), n_neurons=1536)
    """
    sizes = neurons.attrs
    df = pick_method(need(neurons, COLUMNS, "neurons"), method)
    inferred = False
    if n_neurons is None and {"n_layers", "d_mlp"} <= set(sizes):
        n_neurons = int(sizes["n_layers"]) * int(sizes["d_mlp"])
    if n_neurons is None:
        n_neurons = (int(df["layer"].max()) + 1) * (int(df["neuron"].max()) + 1)
        inferred = True
    values = present_values(df["value"])
    pairs = overlaps(df, n_neurons)
    position = {name: number for number, name in enumerate(values)}
    size = df.drop_duplicates(list(COLUMNS))["value"].value_counts()
    heat = np.full((len(values), len(values)), np.nan)
    names = widest(values, float(mpl.rcParams["ytick.labelsize"]))
    cell = min(0.42, (page_width() - names - 1.0) / len(values))
    sheet = Sheet(1.25 + 0.82 * names + max(0.22, 0.8 * cell) * len(values))
    ax = sheet.ax
    top = max(float(pairs["jaccard"].max()), 0.01) if len(pairs) else 1.0
    # three digits where most indices would be equal with two, as long as a cell has room
    digits = 2 if top >= 0.1 or cell < 0.25 else 3
    norm = Normalize(0, top)
    for row in pairs.itertuples():
        i, j = position[str(row.a)], position[str(row.b)]
        heat[i, j] = heat[j, i] = jaccard = float(row.jaccard)  # type: ignore[arg-type]
        level = LEVEL / len(pairs)
        more, fewer = float(row.p_more) < level, float(row.p_fewer) < level  # type: ignore[arg-type]
        colour = on(GROUND(norm(jaccard)))
        for x, y, text in ((j, i, f"{row.shared}"), (i, j, short(jaccard, digits, fixed=True))):
            mark = "↓" if fewer and (x, y) == (j, i) else ""
            ax.text(
                x, y, text + mark, ha="center", va="center", fontsize=SMALLEST, color=colour,
                fontweight="bold" if more else "normal",
            )  # fmt: skip
    ax.imshow(heat, cmap=GROUND, norm=norm, interpolation="nearest", aspect="auto")
    for name, i in position.items():
        ax.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, facecolor="#eef0f1", edgecolor="none"))
        ax.text(i, i, str(int(size[name])), ha="center", va="center", fontsize=SMALLEST, color=MUTED)
    value_grid(ax, values, values)
    bar = sheet.figure.colorbar(ScalarMappable(norm, GROUND), ax=ax, shrink=0.7, aspect=24, pad=0.02)
    bar.set_label("Jaccard index (shared / in either)")
    bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=5))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x, 3)))
    bar.outline.set_visible(False)  # type: ignore[operator]
    selector = f", selector {literal(method_label(str(df['method'].iloc[0])))}" if "method" in df.columns else ""
    sheet.title(f"Neurons that two values share{selector}", loc="left", room=names + 1.0)
    if len(pairs):
        by_chance = (pairs["expected"] / (pairs["size_a"] + pairs["size_b"] - pairs["expected"])).mean()
        bar.ax.axhline(float(by_chance), color="#c4502f", linewidth=1.2)
        about = "at least " if inferred else ""
        sheet.note(
            "upper: shared neurons · lower: Jaccard · diagonal: size of the set\n"
            f"by chance {_span(pairs['expected'])} shared (hypergeometric, of {about}{n_neurons:,} neurons; red: its Jaccard)\n"
            "bold: more than chance, ↓: fewer (p < .05 over all pairs)"
        )
    return sheet.figure


def _span(numbers: pd.Series) -> str:
    low, high = float(numbers.min()), float(numbers.max())
    digits = 0 if low >= 10 else 1
    first, last = f"{low:.{digits}f}", f"{high:.{digits}f}"
    return first if first == last else f"{first} to {last}"
