"""Figure 2: gain against leakage and against cost, with all methods at equal gain.

python figures/gain_cost.py runs/demo
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
#: Prices of the gain, a panel each: leakage, kl, invalid.
MEASURES = ("leakage", "kl")
#: Methods that are not drawn.
WITHOUT: tuple[str, ...] = ()


def draw(run: Path, style: Style) -> Figure:
    """Every method at the gains that it was matched at (table methods)."""
    methods = plots.read_table(run, "methods")
    methods = methods[~methods["method"].isin(WITHOUT)]
    return plots.gain_cost_plot(methods, measures=MEASURES, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
