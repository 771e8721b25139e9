"""Supplement: every measure of every method, with intervals.

python figures/method_bars.py runs/demo
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from neva_tl import plots
from neva_tl.plots.journal import Style, Width
from neva_tl.plots.paper import script
from neva_tl.plots.style import at_gain

#: "column", "text" (both columns) or inches.
WIDTH: Width = "text"
#: Measures, a column each; None takes all that the run has.
MEASURES: tuple[str, ...] | None = None


def draw(run: Path, style: Style) -> Figure:
    """A row per condition, a column per measure (table methods)."""
    methods = plots.read_table(run, "methods")
    return plots.method_bars(at_gain(methods), measures=MEASURES, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
