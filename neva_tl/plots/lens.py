"""Logit lens: readings after each layer, edited and unedited."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Unpack

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from neva_tl.core.errors import InputError
from neva_tl.plots.canvas import Look, Sheet, own_axes, page_width, text_width, ticks_that_fit
from neva_tl.plots.journal import SANS, SMALLEST
from neva_tl.plots.palette import ink, on
from neva_tl.plots.style import GREY, need, present_values, short, styled, value_colour

COLUMNS = ("condition", "layer", "value", "log_odds")
TOKEN_COLUMNS = ("condition", "layer", "rank", "text", "probability")
#: Longest token of a cell, in characters.
CELL = 13
#: Colour of the unedited model.
PLAIN = "#6f757b"
#: Colour of the token table where no value is given.
BLUE = "#12679e"


@styled
def logit_lens_plot(df: pd.DataFrame, *, columns: int = 5, embedding: bool = False, **look: Unpack[Look]) -> Figure:
    """Draw the log-odds of each value's words after every layer, and their change.

    The unedited model is grey, the edited one has the value's colour. Bands are 95 % intervals over prompts where the table
    has them: of each condition in the upper panels, of the paired change in the lower ones. With a column `steered` the
    coloured line is the edit towards the panel's value, and thin lines are the same value under the edits towards the
    others, each in the steered value's colour.

    Args:
        df: table `lens`: condition (`unedited` | `edited`), layer (0 is the embedding), value, log_odds; optionally lo, hi,
            change, change_lo, change_hi, steered.
        columns: values side by side.
        embedding: show layer 0 too, the reading before any block (far below all others on many models, so that it flattens
            the rest).
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> table = nv.attribution.logit_lens(model, pairs.examples()[:4], values=["power"])
        >>> figure = nv.plots.logit_lens_plot(table)
    """
    df = need(df, COLUMNS, "lens")
    if not embedding and (df["layer"] > 0).any():
        df = df[df["layer"] > 0]
    values = present_values(df["value"])
    named = "steered" in df.columns and bool(df["steered"].notna().any())
    if named:  # a value without an edit towards it has no coloured line
        values = [name for name in values if name in set(df["steered"].dropna())] or values
    edited = bool((df["condition"] == "edited").any())
    across = min(columns, len(values))
    step = 2 if edited else 1
    tall, low = 1.2, 0.85
    if own_axes() is None:
        across = min(across, max(1, int((page_width() - 0.5) / 1.2)))
        if len(values) > 4 and page_width() < 4:  # more panels side by side, as narrow as a tick label allows
            across, tall, low = min(columns, 3), 1.0, 0.75
    down = math.ceil(len(values) / across)
    ratios = [tall, low] * down if edited else [tall] * down
    full = down * across == len(values)
    sheet = Sheet(
        0.95 + (0.25 + tall + low * edited) * down,
        len(ratios),
        across,
        used=None if own_axes() is None or full else -1,
        sharex=True,
        height_ratios=ratios,
    )
    grid = sheet.grid
    panel = (sheet.width - 0.5) / across
    for index in range(down * across):
        row, column = step * (index // across), index % across
        for kind in range(step):
            ax = grid[row + kind, column]
            if index >= len(values):
                ax.set_visible(False)
                continue
            ax.sharey(grid[kind, 0])
            name = values[index]
            (_change if kind else _levels)(ax, df[df["value"] == name], name, named)
            ax.xaxis.set_major_locator(
                MaxNLocator(integer=True, nbins=min(6, ticks_that_fit(panel - 0.1, 0.25)), min_n_ticks=1)
            )
            ax.grid(axis="y", color="#eceef0", linewidth=0.6)
            ax.set_axisbelow(True)
            if column == 0:
                ax.set_ylabel("change\n(nats)" if kind else "log-odds\n(nats)")
            else:
                ax.tick_params(labelleft=False)
            # a panel above an empty cell of the grid is the lowest of its column
            if kind == step - 1 and index + across >= len(values):
                ax.tick_params(labelbottom=True)
                ax.set_xlabel("after layer")
    sheet.figure.align_ylabels(list(grid[:, 0]))
    handles = [Line2D([], [], color=PLAIN, linewidth=1.5)]
    labels = ["unedited"]
    if edited:
        handles.append(Line2D([], [], color="#222222", linewidth=1.5))
        labels.append("edited towards this value (in its colour)")
    if edited and named and df["steered"].nunique() > 1:
        handles.append(Line2D([], [], color="#222222", linewidth=0.6, alpha=0.6))
        labels.append("edited towards another")
    sheet.heading("Logit lens: log-odds that the next token is one of the value's words")
    sheet.legend(handles, labels)
    if {"lo", "hi"} <= set(df.columns):
        sheet.note("bands: 95 % intervals over prompts")
    return sheet.figure


def _edited(part: pd.DataFrame, name: str, named: bool) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Rows of the edit towards a value, and of the edits towards others."""
    rows = part[part["condition"] == "edited"].sort_values("layer")
    if not named:
        return rows, {}
    names = [other for other in present_values(rows["steered"].dropna()) if other != name]
    return rows[rows["steered"] == name], {other: rows[rows["steered"] == other] for other in names}


def _levels(ax: Axes, rows: pd.DataFrame, name: str, named: bool) -> None:
    """Log-odds, unedited and edited."""
    plain = rows[rows["condition"] == "unedited"].drop_duplicates("layer").sort_values("layer")
    edited, others = _edited(rows, name, named)
    for other, rows in others.items():
        ax.plot(rows["layer"], rows["log_odds"], color=value_colour(other), linewidth=0.6, alpha=0.6, zorder=2)
    for rows, colour, depth in ((plain, PLAIN, 3), (edited, value_colour(name), 4)):
        _line(ax, rows, ("log_odds", "lo", "hi"), colour, depth)
    ax.set_title(name, color=ink(value_colour(name)), fontsize=mpl.rcParams["legend.fontsize"])


def _change(ax: Axes, rows: pd.DataFrame, name: str, named: bool) -> None:
    """Edited minus unedited."""
    plain = rows[rows["condition"] == "unedited"].drop_duplicates("layer").set_index("layer")["log_odds"]
    edited, others = _edited(rows, name, named)
    ax.axhline(0, color=PLAIN, linewidth=0.8, zorder=1)
    for other, rows in others.items():
        change = rows["log_odds"] - plain.reindex(rows["layer"]).to_numpy()
        ax.plot(rows["layer"], change, color=value_colour(other), linewidth=0.6, alpha=0.6, zorder=2)
    if "change" not in edited.columns or edited["change"].isna().all():
        edited = edited.assign(change=edited["log_odds"] - plain.reindex(edited["layer"]).to_numpy())
    _line(ax, edited, ("change", "change_lo", "change_hi"), value_colour(name), 4)
    if len(edited) and np.isfinite(edited["change"].iloc[-1]):
        end = float(edited["change"].iloc[-1])
        ax.text(
            0.04, 0.94, f"{'+' if end >= 0 else ''}{short(end, 1, fixed=True)} at the end", transform=ax.transAxes,
            ha="left", va="top", fontsize=SMALLEST, color=ink(value_colour(name)),
        )  # fmt: skip


def _line(ax: Axes, rows: pd.DataFrame, columns: tuple[str, str, str], colour: str, depth: int) -> None:
    middle, low, high = columns
    if {low, high} <= set(rows.columns) and rows[low].notna().any():
        ax.fill_between(rows["layer"], rows[low], rows[high], color=colour, alpha=0.16, linewidth=0, zorder=1)
    marker = "o" if rows["layer"].nunique() <= 12 else None
    ax.plot(rows["layer"], rows[middle], color=colour, linewidth=1.3, marker=marker, markersize=2.2, zorder=depth)


@styled
def token_lens_plot(df: pd.DataFrame, *, value: str | None = None, title: str = "", **look: Unpack[Look]) -> Figure:
    """Draw a table of the likeliest next tokens after every layer.

    The deeper the colour of a cell, the likelier its token. A space that opens a token is shown as `·`. A token that the
    unedited table does not have at the same layer is bold.

    Args:
        df: result of `attribution.lens_tokens`: condition, layer, rank, text, probability; or table `lens_tokens`, which
            also has steered and prompt.
        value: the value steered towards, whose colour the edited table takes; in a table of several, by default the one
            whose edit brings most probability to tokens that are new in the last layer.
        title: text above the tables; by default the prompt where the table has it.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, the table is empty, or it has no edit towards the value.

    Example:
        >>> table = nv.attribution.lens_tokens(model, "mara says that", edited=lambda: nv.edit(model, edit))
        >>> figure = nv.plots.token_lens_plot(table)
    """
    df = need(df, TOKEN_COLUMNS, "lens_tokens")
    if "steered" in df.columns:
        value, df = _towards(df, value)
    if not title and "prompt" in df.columns:
        title = f"after: {one_line(str(df['prompt'].iloc[0]), 105)}"
    conditions = [name for name in ("unedited", "edited") if name in set(df["condition"])]
    if not conditions:
        raise InputError("table 'lens_tokens' has neither condition, unedited nor edited: nothing to draw")
    layers = [int(layer) for layer in sorted(df["layer"].unique())]
    ranks = int(df["rank"].max())
    across = len(conditions) if page_width() > 5 or own_axes() else 1
    down = len(conditions) // across
    sheet = Sheet(0.6 + down * (0.45 + 0.19 * len(layers)), down, across, sharey=True)
    axes = sheet.axes
    room = (sheet.width - 0.6) / across / ranks
    edited_colour = value_colour(value) if value else BLUE
    for ax, condition in zip(axes, conditions, strict=True):
        colour = GREY if condition == "unedited" else edited_colour
        _token_cells(ax, df[df["condition"] == condition], layers, ranks, colour, _new_tokens(df, condition), room)
        towards = f" towards {value}" if value and condition == "edited" else ""
        ax.set_title(
            condition + towards, color="#555555" if condition == "unedited" else ink(edited_colour), loc="left"
        )
        _token_axes(ax, layers, ranks)
    for ax in axes[::across]:
        ax.set_ylabel("after layer")
    if title:
        most = int(sheet.width * 72 / (0.62 * float(mpl.rcParams["font.size"])))
        sheet.heading(one_line(title, most), fontsize=mpl.rcParams["font.size"], x=0.01, ha="left", parse_math=False)
    bold = " · bold: not among the unedited tokens of that layer" if len(conditions) > 1 else ""
    sheet.note(f"ground: probability from 0 (white) to 1{bold}")
    return sheet.figure


def _towards(df: pd.DataFrame, value: str | None) -> tuple[str | None, pd.DataFrame]:
    """The value to draw (by default the one that moves most), and its rows."""
    steered = present_values(df["steered"].dropna())
    value = value or _most_moved(df, steered)
    rows = df[df["steered"] == value]
    if not len(rows):
        raise InputError(f"table 'lens_tokens' holds no edit towards {value}: it has {', '.join(steered) or 'none'}")
    return value, rows


def _new_tokens(df: pd.DataFrame, condition: str) -> Callable[[int, str], bool]:
    """A test of (layer, text): whether the unedited table lacks the token there."""
    unedited = df[df["condition"] == "unedited"]
    texts = {layer: set(rows["text"]) for layer, rows in unedited.groupby(unedited["layer"].astype(int))}
    if condition != "edited" or not texts:
        return lambda _layer, _text: False
    return lambda layer, text: text not in texts.get(layer, set())


def _token_cells(
    ax: Axes,
    rows: pd.DataFrame,
    layers: list[int],
    ranks: int,
    colour: str,
    is_new: Callable[[int, str], bool],
    room: float,
) -> None:
    """Tokens of one condition on a ground as deep as their probability."""
    cells = [
        (layers.index(int(layer)), int(rank) - 1, str(text), float(probability), is_new(int(layer), str(text)))
        for layer, rank, text, probability in zip(
            rows["layer"], rows["rank"], rows["text"], rows["probability"], strict=True
        )
    ]
    heat = np.full((len(layers), ranks), np.nan)
    for y, x, _, probability, _ in cells:
        heat[y, x] = probability
    ground = LinearSegmentedColormap.from_list("ground", ["#ffffff", colour])
    ax.imshow(heat, cmap=ground, vmin=0, vmax=1, aspect="auto", interpolation="nearest", origin="lower")
    for y, x, text, probability, new in cells:
        ax.text(
            x, y, _that_fits(cell_text(text), room, "bold" if new else "normal"), ha="center", va="center",
            fontsize=SMALLEST, clip_on=True, parse_math=False, color=on(ground(probability)),
            fontweight="bold" if new else "normal",
        )  # fmt: skip


def _token_axes(ax: Axes, layers: list[int], ranks: int) -> None:
    """Ranks across, layers upwards, white lines between the cells."""
    ax.set_xticks(range(ranks), [str(rank) for rank in range(1, ranks + 1)])
    ax.set_yticks(range(len(layers)), ["embed" if layer == 0 else str(layer) for layer in layers])
    ax.set_xlabel("rank")
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xticks(np.arange(ranks + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(layers) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1.0)
    ax.tick_params(which="minor", length=0)


def _most_moved(df: pd.DataFrame, steered: list[str]) -> str | None:
    """The value whose edit brings most probability to new tokens in the last layer.

    A token is new where the unedited table does not have it.
    """
    last = df[df["layer"] == df["layer"].max()]
    best, largest = None, -1.0
    for name in steered:
        rows = last[last["steered"] == name]
        unedited = set(rows.loc[rows["condition"] == "unedited", "text"])
        edited = rows[rows["condition"] == "edited"]
        moved = float(edited.loc[~edited["text"].isin(unedited), "probability"].sum())
        if moved > largest:
            best, largest = name, moved
    return best


def one_line(text: str, most: int) -> str:
    """Return the end of a text on one line, undrawable characters as spaces.

    Args:
        text: any text.
        most: length of the result in characters; a longer text loses its start.

    Returns:
        The line; its end is the context of the next token.
    """
    flat = " ".join("".join(c if _drawable(c) else " " for c in text).split())
    return flat if len(flat) <= most else "…" + flat[1 - most :]


def _that_fits(text: str, room: float, weight: str) -> str:
    """The start of a cell's text that fits into its width in inches."""
    while len(text) > 2 and text_width(text, SMALLEST, weight) > 72 * room - 2:
        text = text[:-2] + "…"
    return text


def cell_text(token: str) -> str:
    """Return a token's text for a cell.

    Leading space and line breaks are visible, undrawable characters are `□`, long tokens are cut.
    """
    if token == " ":
        return "␣"
    lead, body = ("·", token[1:]) if token.startswith(" ") else ("", token)
    text = lead + "".join("↵" if c == "\n" else c if _drawable(c) else "□" for c in body)
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


@lru_cache(maxsize=4096)
def _drawable(character: str) -> bool:
    """Whether a character is printable and in the figures' font.

    Marks of text direction are not printable.
    """
    font = get_font(findfont(SANS))
    return character.isprintable() and font.get_char_index(ord(character)) != 0
