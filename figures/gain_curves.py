"""Supplement: leakage and cost along the gain, methods with and without gates.

python figures/gain_curves.py runs/science/demo
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
    """Curves of the comparison of methods (table gain_curves)."""
    curves = plots.read_table(run, "gain_curves")
    return plots.gain_curves_plot(curves, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
