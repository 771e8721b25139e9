"""Supplement: leakage against gain as the dose grows, all methods on one pair of axes.

python figures/gain_leakage.py runs/demo
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from neva_tl import plots
from neva_tl.plots.journal import Style, Width
from neva_tl.plots.needs import lacks_leakage
from neva_tl.plots.paper import script, usable

#: "column", "text" (both columns) or inches.
WIDTH: Width = "column"


def draw(run: Path, style: Style) -> Figure:
    """Means over values at the doses of the search (table dose)."""
    dose = usable(plots.read_table(run, "dose"), lacks_leakage)
    return plots.gain_leakage(dose, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
