"""Style of all figures: labels and order of conditions, checks of tables, grids of values, atomic saving."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write
from neva_tl.core.formatting import short
from neva_tl.core.method_records import METHODS
from neva_tl.plots.canvas import new_figure as new_figure
from neva_tl.plots.canvas import styled as styled
from neva_tl.plots.journal import RC as RC
from neva_tl.plots.palette import ALIASES, ink
from neva_tl.plots.palette import method_code as method_code
from neva_tl.plots.palette import method_colour as method_colour
from neva_tl.plots.value_names import is_value
from neva_tl.plots.value_names import present_values as present_values
from neva_tl.plots.value_names import value_code as value_code
from neva_tl.plots.value_names import value_colour as value_colour

#: Faint lines and marks of secondary data.
GREY = "#9aa0a6"
FAINT = "#d5d8dc"
#: Diverging map for signed effects, and its two ends for single marks.
DIVERGING = "RdBu_r"
POSITIVE, NEGATIVE = "#b2182b", "#2166ac"

#: Columns that remain text even where every cell is empty.
TEXT = frozenset(
    {"method", "gate", "value", "steered", "measured", "token", "token_value", "reached", "status", "prompt", "text"}
)


def method_label(method: str) -> str:
    """Label of a method in figures: `neva_shift` -> `NeVA shift`; unknown names lose their underscores.

    Args:
        method: A name in a table; it need not be registered.
    """
    record = METHODS.get(ALIASES.get(method, method))
    return record.label if record and record.label else method.replace("_", " ")


def method_order(methods: Iterable[str]) -> list[str]:
    """Distinct names: registered methods in their order, the unedited model, then unknown names in order of appearance.

    Args:
        methods: Names, with repetitions.
    """
    order: list[str] = []
    for name in METHODS:
        order += [name, *(alias for alias, method in ALIASES.items() if method == name)]
    order.append("unedited")
    names = list(dict.fromkeys(str(method) for method in methods))
    return [name for name in order if name in names] + [name for name in names if name not in order]


def literal(text: str) -> str:
    """Escape text for matplotlib, so that a `$` in a name does not open a formula."""
    return text.replace("$", r"\$")


def gate_of(raw: object) -> str:
    """Return a gate's name; a missing or empty gate is `none`."""
    return "none" if raw is None or raw != raw or str(raw) in ("", "none", "None") else str(raw)


def condition_label(method: str, gate: object = None, target_gain: object = None) -> str:
    """Return the label of a condition, for example `NeVA · probe gate · gain .4`."""
    parts = [method_label(method)]
    if gate_of(gate) != "none":
        parts.append(f"{gate_of(gate)} gate")
    if target_gain is not None and np.isfinite(float(target_gain)):  # type: ignore[arg-type]
        parts.append(f"gain {short(float(target_gain))}")  # type: ignore[arg-type]
    return " · ".join(parts)


def need(df: pd.DataFrame, columns: Iterable[str], table: str) -> pd.DataFrame:
    """Check a table's columns, and convert its numbers to plain floats.

    Args:
        df: the table.
        columns: names of the required columns.
        table: name of the table in error messages.

    Returns:
        A copy as `plain_numbers` gives it.

    Raises:
        InputError: The table has no rows, or columns are missing (the message names them).
    """
    missing = [name for name in columns if name not in df.columns]
    if missing:
        raise InputError(
            f"table {table!r} lacks the columns {', '.join(missing)}: it has {', '.join(map(str, df.columns))}"
        )
    if len(df) == 0:
        raise InputError(f"table {table!r} has no rows: nothing to draw")
    return plain_numbers(df)


def plain_numbers(df: pd.DataFrame) -> pd.DataFrame:
    """Return a copy whose numeric columns with None or NA are float64 with NaN.

    Text and booleans are unchanged.
    """
    out = df.copy()
    for name, column in df.items():
        if column.dtype.kind in "biuf" and isinstance(column.dtype, np.dtype):
            continue
        numbers = all(isinstance(x, int | float | np.number) and not isinstance(x, bool) for x in column.dropna())
        if numbers and str(name) not in TEXT:
            out[name] = column.astype(object).where(column.notna(), np.nan).astype(float)
    return out


def conditions(df: pd.DataFrame) -> list[tuple[str, str, float]]:
    """Return the distinct (method, gate, target_gain) of a table in fixed order."""
    method = df["method"].astype(str)
    gate = df["gate"].map(gate_of) if "gate" in df.columns else pd.Series("none", index=df.index)
    gain = df["target_gain"].astype(float) if "target_gain" in df.columns else pd.Series(np.nan, index=df.index)
    distinct = set(zip(method, gate, gain.fillna(-1.0), strict=True))
    order = method_order(method)
    ranked = sorted(distinct, key=lambda row: (order.index(row[0]), row[1], row[2]))
    return [(m, g, t if t >= 0 else float("nan")) for m, g, t in ranked]


def of_condition(df: pd.DataFrame, condition: tuple[str, str, float]) -> pd.DataFrame:
    """Return the rows of one (method, gate, target_gain)."""
    method, gate, gain = condition
    selected = df["method"].astype(str) == method
    if "gate" in df.columns:
        selected &= df["gate"].map(gate_of) == gate
    if "target_gain" in df.columns:
        column = df["target_gain"].astype(float)
        selected &= column.isna() if gain != gain else np.isclose(column, gain)
    return df[selected]


def at_gain(df: pd.DataFrame, target_gain: float | None = None) -> pd.DataFrame:
    """Return the rows at one target gain, by default the largest.

    Rows without a target gain (role prompt) are kept.
    """
    if "target_gain" not in df.columns:
        return df
    column = df["target_gain"].astype(float)
    if target_gain is None:
        if column.notna().sum() == 0:
            return df
        target_gain = float(column.max())
    return df[column.isna() | np.isclose(column, target_gain)]


def halo(text: Text) -> Text:
    """Give a label a thin white outline, so that it is readable over lines and marks."""
    text.set_path_effects([patheffects.withStroke(linewidth=1.6, foreground="white")])
    return text


def colour_value_ticks(ax: Axes, axis: str) -> None:
    """Colour tick labels that name values in the colours of those values."""
    for label in ax.get_xticklabels() if axis == "x" else ax.get_yticklabels():
        if is_value(label.get_text()):
            label.set_color(ink(value_colour(label.get_text())))


def value_grid(ax: Axes, columns_of: list[str], rows_of: list[str]) -> None:
    """Style the axes of an image of values by values.

    Names are coloured, the frame is hidden, white lines separate the cells.
    """
    ax.set_xticks(range(len(columns_of)), columns_of, rotation=55, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(rows_of)), rows_of)
    colour_value_ticks(ax, "x")
    colour_value_ticks(ax, "y")
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xticks(np.arange(len(columns_of) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(rows_of) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1.2)
    ax.tick_params(which="minor", length=0)


#: Pixels per inch of the PNGs in a run folder.
FIGURE_DPI = 200


def save_figure(
    figure: Figure, stem: str | Path, formats: Iterable[str] = ("pdf", "png"), dpi: int = FIGURE_DPI
) -> list[Path]:
    """Write `STEM.pdf` and `STEM.png` atomically.

    The same figure gives the same bytes.

    Args:
        figure: the figure to write.
        stem: path without suffix; a missing folder is created.
        formats: formats of matplotlib (`pdf`, `png`, `svg`).
        dpi: pixels per inch of the PNG.

    Returns:
        The paths of the files.

    Example:
        >>> figure = nv.plots.layer_profile(nv.plots.read_table(run, "neurons"), n_layers=4)
        >>> nv.plots.save_figure(figure, "profile", formats=("png",))[0].name
        'profile.png'
    """
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    # layout is the slow step: it runs once for all formats
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    paths = []
    for kind in formats:
        target = stem.parent / f"{stem.name}.{kind}"
        # without dates the same figure gives the same file
        undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind, {})
        with atomic_write(target) as file, mpl.rc_context(RC):
            figure.savefig(file, format=kind, dpi=dpi, metadata=undated)
        paths.append(target)
    return paths
