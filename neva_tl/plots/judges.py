"""Quality of the judges of texts."""

from __future__ import annotations

from typing import Unpack

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neva_tl.core.errors import InputError
from neva_tl.plots.canvas import MUTED, Look, Sheet, page_width, small
from neva_tl.plots.gain_cost import SIDE_BY_SIDE
from neva_tl.plots.style import halo, literal, need, short, styled

#: Start of the name of a published figure, drawn as a line.
PUBLISHED = "published: "
#: Column -> (title, level of a judge that knows nothing, or None).
MEASURES: dict[str, tuple[str, float | None]] = {
    "persona_auroc": ("AUROC: statements for a value against those opposed", 0.5),
    "task_f1": ("F1 on ValueEval (20 categories)", None),
}
#: Length of a judge's name on the axis.
LONGEST = 26


@styled
def judges_plot(judges: pd.DataFrame, **look: Unpack[Look]) -> Figure:
    """Draw how well each judge recognises values, a row per judge.

    Left: AUROC on persona statements, which asks about endorsement (dashed: chance). Right: F1 on the arguments of
    ValueEval, which asks about presence (dashed: published systems, where the table has them). Bars are 95 % intervals.

    Args:
        judges: table `judges` of analyses/judge_quality.py: judge, task_f1, persona_auroc, each with _lo and _hi.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty or has published figures only.

    Example:
        >>> table = pd.DataFrame({"judge": ["wordlist", "llm"], "persona_auroc": [0.56, 0.85], "task_f1": [0.22, 0.25]})
        >>> figure = nv.plots.judges_plot(table)
    """
    df = need(judges, ("judge", *MEASURES), "judges")
    published = df[df["judge"].astype(str).str.startswith(PUBLISHED)]
    df = df.drop(index=published.index)
    if not len(df):
        raise InputError("table 'judges' has published figures only: analyses/judge_quality.py measures judges")
    across = page_width() >= SIDE_BY_SIDE
    rows, columns = (1, len(MEASURES)) if across else (len(MEASURES), 1)
    sheet = Sheet(0.3 + (1.1 + 0.26 * len(df)) * rows, rows, columns, sharey=True)
    axes = sheet.axes
    for ax, (name, (title, chance)) in zip(axes, MEASURES.items(), strict=True):
        _panel(ax, df, name)
        sheet.title(title, ax, columns=columns, room=1.2, loc="left")
        levels = [("chance", chance)] if chance is not None else []
        if name == "task_f1":
            levels = [
                (str(row["judge"]).removeprefix(PUBLISHED), float(row[name])) for row in published.to_dict("records")
            ]
        for label, level in levels:
            ax.axvline(level, color="#777777", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
            ax.text(
                level, 0, f" {label}", transform=ax.get_xaxis_transform(), fontsize=small(), rotation=90, va="bottom",
                ha="right", color=MUTED,
            )  # fmt: skip
    for ax in sheet.grid[:, 0]:
        ax.set_yticks(range(len(df)), [literal(_short(str(name))) for name in df["judge"]])
    # the names of the lines have a strip of their own below the judges
    axes[0].set_ylim(len(df) + 0.9, -0.6)
    return sheet.figure


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def _panel(ax: Axes, df: pd.DataFrame, name: str) -> None:
    for y, row in enumerate(df.to_dict("records")):
        lo, hi = (float(row.get(f"{name}_{side}", row[name])) for side in ("lo", "hi"))
        ax.plot([lo, hi], [y, y], color="#12679e", linewidth=1.4, solid_capstyle="butt")
        ax.plot(row[name], y, "o", color="#12679e", markersize=4.5)
        halo(
            ax.annotate(
                short(float(row[name])), (float(row[name]), y), xytext=(0, 4.5), textcoords="offset points", ha="center",
                fontsize=small(),
            )
        )  # fmt: skip
    ax.set_xlim(0, 1.02)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x", color="#eeeeee", linewidth=0.7)
    ax.set_axisbelow(True)
