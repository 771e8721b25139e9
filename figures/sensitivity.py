"""Figure 8a: sensitivity of gain, leakage and cost to one factor at a time.

python figures/sensitivity.py runs/demo
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
#: Factors that are not drawn.
WITHOUT: tuple[str, ...] = ()


def draw(run: Path, style: Style) -> Figure:
    """Levels around the run's own setting (table sensitivity)."""
    sensitivity = plots.read_table(run, "sensitivity")
    sensitivity = sensitivity[~sensitivity["factor"].isin(WITHOUT)]
    return plots.sensitivity_plot(sensitivity, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
