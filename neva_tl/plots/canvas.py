"""The figure that a drawing function draws on: its width and style, axes of the caller, legends and notes that fit.

`styled` gives every figure function the keywords of `Look`. Inside, a function asks for a `Sheet`: a grid of axes as wide as the
caller asked for, or the caller's own axes. No function changes pyplot, and the rcParams only during a call.
"""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ParamSpec, TypedDict, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.textpath import text_to_path

from neva_tl.core.errors import InputError
from neva_tl.plots.journal import RC, SMALLEST, Style, Width, inches, journal
from neva_tl.plots.palette import using_palette
from neva_tl.plots.value_names import drawn_with_theory

P = ParamSpec("P")
R = TypeVar("R")

#: Colour of notes, and of lines that only guide the eye.
MUTED, GUIDE = "#5f6368", "#cccccc"


class Look(TypedDict, total=False):
    """Keywords of every figure function.

    Attributes:
        ax: Axes to draw into, for a figure of several panels a list of them; None makes a figure. Notes below the figure are
            then left out, and the size is that of the axes.
        width: Width of the figure: `column` or `text` of the style, or inches.
        style: Fonts and widths: `notebook`, `neurips`, `icml`, `acl` or `nature`.
        palette: Method or value name -> colour, in place of the usual ones.

    Example:
        >>> table = nv.plots.read_table(run, "neurons")
        >>> figure = nv.plots.layer_profile(table, width="column", style="icml", palette={"power": "#222222"})
        >>> float(figure.get_figwidth())
        3.25
    """

    ax: Axes | Sequence[Axes] | None
    width: Width
    style: Style
    palette: Mapping[str, str] | None


@dataclass(frozen=True)
class _Page:
    """What the caller of a figure function asked for."""

    width: float
    axes: tuple[Axes, ...] | None = None


_PAGE: ContextVar[_Page | None] = ContextVar("page", default=None)
_LOOK = {
    "ax": ("Axes | Sequence[Axes] | None", None),
    "width": ("'column' | 'text' | float", "text"),
    "style": ("Style", "notebook"),
    "palette": ("Mapping[str, str] | None", None),
}


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Give a drawing function the keywords of `Look`, and restore the caller's rcParams after it.

    Order and colours of the values follow the theory of the tables.

    Args:
        draw: The function; it takes its axes from a `Sheet`.
    """
    with_theory = drawn_with_theory(draw)

    @functools.wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        options: dict[str, Any] = dict(kwargs)
        ax, width, style, palette = (options.pop(name, default) for name, (_, default) in _LOOK.items())
        page = _Page(inches(style, width), _given(ax))
        token = _PAGE.set(page)
        try:
            with mpl.rc_context(dict(journal(style).rc)), using_palette(palette):
                return with_theory(*args, **options)  # type: ignore[arg-type]
        finally:
            _PAGE.reset(token)

    inner.__signature__ = _signature(draw)  # type: ignore[attr-defined]
    return inner


def _signature(draw: Callable[..., Any]) -> inspect.Signature:
    """The signature with the keywords of `Look` written out, for help and editors."""
    signature = inspect.signature(draw)
    own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    look = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _LOOK.items()
    ]
    return signature.replace(parameters=[*own, *(look if len(own) < len(signature.parameters) else [])])


def _given(ax: Any) -> tuple[Axes, ...] | None:
    if ax is None:
        return None
    axes = (ax,) if isinstance(ax, Axes) else tuple(np.ravel(np.asarray(ax, dtype=object)))
    wrong = next((one for one in axes if not isinstance(one, Axes)), None)
    if wrong is not None or not axes:
        raise InputError(
            f"ax is {type(wrong).__name__ if axes else 'an empty list'}: pass matplotlib axes or a list of them"
        )
    return axes


def page_width() -> float:
    """Return the width in inches that the caller asked for, or that of his axes."""
    page = _PAGE.get()
    if page is None:
        return inches("notebook", "text")
    if page.axes is None:
        return page.width
    boxes = [one.get_window_extent() for one in page.axes]
    figure = page.axes[0].figure
    return float((max(box.x1 for box in boxes) - min(box.x0 for box in boxes)) / figure.dpi)


def own_axes() -> tuple[Axes, ...] | None:
    """Return the caller's axes; None where the function makes a figure."""
    page = _PAGE.get()
    return None if page is None else page.axes


def small() -> float:
    """Return the size of notes in points."""
    return max(SMALLEST, float(mpl.rcParams["legend.fontsize"]) - 0.5)


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure with constrained layout, sizes in inches.

    Its canvas is Agg's, so that pyplot keeps no reference to it.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


class Sheet:
    """A grid of axes: of a figure as wide as the caller asked for, or the caller's own.

    Attributes:
        figure: The figure.
        grid: Axes as an array of rows and columns.
        own: Whether the figure was made here; notes and headings are drawn in such a figure only.
        width: Width in inches.
    """

    def __init__(
        self, height: float, rows: int = 1, columns: int = 1, *, used: int | None = None, **options: Any
    ) -> None:
        """Make the grid.

        Args:
            height: Height of a new figure in inches.
            rows: Rows of axes.
            columns: Columns of axes.
            used: Number of axes that are drawn on, row by row; the others are taken out.
            **options: See `Figure.subplots`.

        Raises:
            InputError: The caller's axes are not as many as the figure has panels, or not of its projection.
        """
        axes, self.width = own_axes(), page_width()
        used = rows * columns if used is None else used
        self.own = axes is None
        self._below: Legend | None = None
        if axes is None:
            self.figure = new_figure(self.width, height)
            self.grid = self.figure.subplots(rows, columns, squeeze=False, **options)
            for ax in list(self.grid.flat)[used:]:
                ax.remove()
            return
        if len(axes) != used:
            raise InputError(
                f"this figure has {used} panel{'s' * (used > 1)}, and ax= holds {len(axes)} axes: "
                f"pass {'a list of ' + str(used) if used > 1 else 'one'}, or leave ax= out"
            )
        projection = (options.get("subplot_kw") or {}).get("projection", "rectilinear")
        wrong = next((ax.name for ax in axes if ax.name != projection), None)
        if wrong is not None:
            raise InputError(
                f"this figure needs {projection} axes, and ax= is {wrong}: make it with projection={projection!r}"
            )
        self.figure = axes[0].figure  # type: ignore[assignment]
        self.grid = np.empty((rows, columns), dtype=object)
        self.grid.flat[:used] = axes
        for ax in axes:
            _restyle(ax)

    @property
    def ax(self) -> Axes:
        """The first axes."""
        first: Axes = self.grid[0, 0]
        return first

    @property
    def axes(self) -> list[Axes]:
        """All axes that are drawn on, row by row."""
        return [ax for ax in self.grid.flat if ax is not None and ax.figure is not None]

    def legend(self, handles: Sequence[Artist], labels: Sequence[str], *, right: bool = False) -> None:
        """Draw a legend below the axes, in as many columns as fit; in the caller's axes, inside the last one.

        Args:
            handles: Lines and patches.
            labels: Their names.
            right: Whether a wide figure has the legend on its right.
        """
        if not handles:
            return
        if not self.own:
            self.axes[-1].legend(handles, labels, loc="best")
            return
        if right and self.width >= 5:
            self.figure.legend(handles, labels, loc="outside right center")
            return
        size = float(mpl.rcParams["legend.fontsize"])
        widest = max(text_width(line, size) for label in labels for line in label.split("\n"))
        # a handle of two ems, its pad, and the space between columns
        columns = int((self.width * 72 - size) // (widest + 3.9 * size))
        columns = max(1, min(columns, len(labels)))
        rows = -(-len(labels) // columns)
        self._below = self.figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=-(-len(labels) // rows),
            columnspacing=1.1,
            handletextpad=0.6,
        )

    def note(self, text: str) -> None:
        """Write a note below everything, wrapped to the width; above the legend's entries where the legend is below.

        Args:
            text: The note; line breaks stay.
        """
        if not self.own or not text:
            return
        text = "\n".join(wrap(line, self.width - 0.15, small()) for line in text.split("\n"))
        if self._below is not None:
            # a legend and a label of the figure have the same position, so the note is the legend's title
            self._below.set_title(text)
            title = self._below.get_title()
            title.set(fontsize=small(), color=MUTED, multialignment="center")
        else:
            self.figure.supxlabel(text, fontsize=small(), color=MUTED)

    def heading(self, text: str, **options: Any) -> None:
        """Write a title over all panels, wrapped to the width.

        Args:
            text: The title.
            **options: See `Figure.suptitle`.
        """
        if self.own and text:
            size = float(mpl.rcParams["axes.titlesize"])
            options = {"fontsize": size, **options}
            self.figure.suptitle(wrap(text, self.width - 0.45, float(options["fontsize"])), **options)

    def title(self, text: str, ax: Axes | None = None, *, room: float = 0.75, columns: int = 1, **options: Any) -> None:
        """Write the title of a panel, wrapped to its width.

        Args:
            text: The title.
            ax: The panel; by default the first.
            room: Inches of the figure's width that tick labels take.
            columns: Panels side by side.
            **options: See `Axes.set_title`.
        """
        size = float(options.get("fontsize", mpl.rcParams["axes.titlesize"]))
        weight = str(options.get("fontweight", mpl.rcParams["axes.titleweight"]))
        width = (self.width - room) / columns - 0.05 if self.own else self.width / columns
        (ax or self.ax).set_title(wrap(text, width, size, weight).replace("\u00a0", " "), **options)


def _restyle(ax: Axes) -> None:
    """Bring the caller's axes, made under other rcParams, to the style."""
    rc: Any = mpl.rcParams
    for side in ("top", "right"):
        if side in ax.spines:
            ax.spines[side].set_visible(bool(rc[f"axes.spines.{side}"]))
    for axis, name in ((ax.xaxis, "xtick"), (ax.yaxis, "ytick")):
        axis.set_tick_params(labelsize=rc[f"{name}.labelsize"], labelcolor=rc[f"{name}.color"])
        for label in axis.get_ticklabels():
            label.set_fontfamily(rc["font.family"])
        axis.label.set_fontsize(rc["axes.labelsize"])
        axis.label.set_color(rc["axes.labelcolor"])
        axis.label.set_fontfamily(rc["font.family"])


@lru_cache(maxsize=16384)
def _measured(text: str, size: float, weight: str, family: tuple[str, ...]) -> float:
    font = FontProperties(family=list(family), size=size, weight=weight)
    # a bar keeps the width of a space at the end
    width, _, _ = text_to_path.get_text_width_height_descent(text + "|", font, ismath=False)
    bar, _, _ = text_to_path.get_text_width_height_descent("|", font, ismath=False)
    return float(width - bar)


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a line in points, in the font of the style.

    Args:
        text: The line; a space at its end counts.
        size: Points.
        weight: `normal` or `bold`.
    """
    return _measured(text, size, weight, tuple(mpl.rcParams["font.family"]))


def widest(lines: Iterable[str], size: float, weight: str = "normal") -> float:
    """Return the width in inches of the widest of several labels.

    Args:
        lines: Labels, which may have several lines.
        size: Points.
        weight: `normal` or `bold`.
    """
    return max((text_width(part, size, weight) for line in lines for part in line.split("\n")), default=0.0) / 72


def wrap(text: str, width: float, size: float, weight: str = "normal") -> str:
    """Break a text at spaces into lines that fit into a width.

    Args:
        text: The text; its own line breaks stay.
        width: Inches.
        size: Points.
        weight: `normal` or `bold`.
    """
    lines = []
    for line in text.split("\n"):
        most = len(line)
        parts = [line]
        while most > 4 and widest(parts, size, weight) > width:
            most -= 1
            parts = textwrap.wrap(line, most, break_long_words=False, break_on_hyphens=False) or [line]
            if max(map(len, parts)) > most:
                break
        lines += parts
    return "\n".join(lines)


def ticks_that_fit(width: float, room: float = 0.34) -> int:
    """Return the number of tick labels that fit side by side.

    Args:
        width: Inches of the axis.
        room: Inches of a label.
    """
    return max(2, int(width / room))


__all__ = ["GUIDE", "MUTED", "RC", "Look", "Sheet", "new_figure", "small", "styled", "text_width", "widest", "wrap"]
