"""How many neurons the values share, beside what chance would give."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from neva_tl.core.errors import InputError
from neva_tl.core.statistics import overlap
from neva_tl.plots.layer_profile import pick_method
from neva_tl.plots.style import (
    literal,
    method_label,
    need,
    new_figure,
    present_values,
    short,
    styled,
    value_grid,
)

COLUMNS = ("value", "layer", "neuron")
#: Family-wise level over all pairs at which an overlap counts as other than chance (Bonferroni).
LEVEL = 0.05
GROUND = LinearSegmentedColormap.from_list("overlap", ["#ffffff", "#cfe3ee", "#5f9fc4", "#0d4f7a"])


def overlaps(neurons: pd.DataFrame, n_neurons: int) -> pd.DataFrame:
    """Shared neurons of every pair of values, and what two sets of those sizes drawn at random would share.

    Args:
        neurons: value, layer, neuron of one selector.
        n_neurons: neurons that selection chose from (layers x d_mlp).

    Returns:
        One row per pair in circle order: a, b, size_a, size_b, shared, jaccard (shared / either's), expected (mean of the
        hypergeometric distribution), p_more, p_fewer (its tails: at least, at most so many).

    Raises:
        InputError: a set is larger than `n_neurons`.
    """
    sets = {
        str(name): set(zip(rows["layer"].astype(int), rows["neuron"].astype(int), strict=True))
        for name, rows in neurons.groupby("value")
    }
    largest = max((len(found) for found in sets.values()), default=0)
    if largest > n_neurons:
        raise InputError(f"a value has {largest} neurons, but the model is said to have {n_neurons}")
    rows = []
    for a, b in combinations(present_values(sets), 2):
        rows.append({"a": a, "b": b, **overlap(sets[a], sets[b], n_neurons)._asdict()})
    names = ["a", "b", "size_a", "size_b", "shared", "jaccard", "expected", "p_more", "p_fewer"]
    return pd.DataFrame(rows, columns=names)


@styled
def overlap_plot(neurons: pd.DataFrame, *, n_neurons: int | None = None, method: str | None = None) -> Figure:
    """Matrix of shared neurons in circle order: counts above the diagonal, Jaccard below, set sizes on it.

    The ground is the Jaccard index. Bold: more than chance gives, `↓`: fewer (hypergeometric, 5 % over all pairs together).

    Args:
        neurons: table `neurons`: value, layer, neuron, and method where it holds several selectors.
        n_neurons: neurons that selection chose from (layers x d_mlp); by default from the table's
            `attrs["n_layers"] * attrs["d_mlp"]` (set by `read_table`), else from the largest layer and index in it.
        method: the selector to show; by default `neva`, else the first.

    Raises:
        InputError: a column is missing, the table is empty, or a set is larger than the model.
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
    place = {name: number for number, name in enumerate(values)}
    size = df.drop_duplicates(list(COLUMNS))["value"].value_counts()
    heat = np.full((len(values), len(values)), np.nan)
    figure = new_figure(2.3 + 0.42 * len(values), 1.75 + 0.38 * len(values))
    ax = figure.subplots()
    top = max(float(pairs["jaccard"].max()), 0.01) if len(pairs) else 1.0
    digits = 2 if top >= 0.1 else 3
    norm = Normalize(0, top)
    for row in pairs.itertuples():
        i, j = place[str(row.a)], place[str(row.b)]
        heat[i, j] = heat[j, i] = jaccard = float(row.jaccard)  # type: ignore[arg-type]
        bar = LEVEL / len(pairs)
        more, fewer = float(row.p_more) < bar, float(row.p_fewer) < bar  # type: ignore[arg-type]
        colour = "white" if jaccard > 0.62 * top else "#222222"
        for x, y, text in ((j, i, f"{row.shared}"), (i, j, short(jaccard, digits, fixed=True))):
            mark = "↓" if fewer and (x, y) == (j, i) else ""
            ax.text(
                x, y, text + mark, ha="center", va="center", fontsize=6, color=colour,
                fontweight="bold" if more else "normal",
            )  # fmt: skip
    ax.imshow(heat, cmap=GROUND, norm=norm, interpolation="nearest", aspect="auto")
    for name, i in place.items():
        ax.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, facecolor="#eef0f1", edgecolor="none"))
        ax.text(i, i, str(int(size[name])), ha="center", va="center", fontsize=6, color="#666666")
    value_grid(ax, values, values)
    bar_axis = figure.colorbar(ScalarMappable(norm, GROUND), ax=ax, shrink=0.7, aspect=24, pad=0.02)
    bar_axis.set_label("Jaccard index (shared / in either)")
    bar_axis.ax.yaxis.set_major_locator(MaxNLocator(nbins=5))
    bar_axis.ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x, 3)))
    bar_axis.outline.set_visible(False)  # type: ignore[operator]
    selector = f", selector {literal(method_label(str(df['method'].iloc[0])))}" if "method" in df.columns else ""
    ax.set_title(f"Neurons that two values share{selector}", loc="left")
    if len(pairs):
        by_chance = (pairs["expected"] / (pairs["size_a"] + pairs["size_b"] - pairs["expected"])).mean()
        bar_axis.ax.axhline(float(by_chance), color="#c4502f", linewidth=1.2)
        about = "at least " if inferred else ""
        figure.supxlabel(
            f"upper: shared neurons · lower: Jaccard · diagonal: size of the set\n"
            f"by chance {_span(pairs['expected'])} shared (hypergeometric, of {about}{n_neurons:,} neurons; red: its Jaccard)\n"
            "bold: more than chance, ↓: fewer (p < .05 over all pairs)",
            fontsize=6.5,
            color="#666666",
        )
    return figure


def _span(numbers: pd.Series) -> str:
    low, high = float(numbers.min()), float(numbers.max())
    digits = 0 if low >= 10 else 1
    first, last = f"{low:.{digits}f}", f"{high:.{digits}f}"
    return first if first == last else f"{first} to {last}"
