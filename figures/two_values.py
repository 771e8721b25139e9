"""Supplement: two values steered at once, compatible and opposed ones.

python figures/two_values.py runs/demo
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from neva_tl import plots
from neva_tl.plots.journal import Style, Width
from neva_tl.plots.paper import script

#: "column", "text" (both columns) or inches.
WIDTH: Width = "text"


def draw(run: Path, style: Style) -> Figure:
    """Gain and leakage per kind of pair (table two_values_kinds)."""
    kinds = plots.read_table(run, "two_values_kinds")
    return plots.two_values_plot(kinds, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
