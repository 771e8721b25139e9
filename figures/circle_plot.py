"""Supplement: leakage drawn around the circle of values.

python figures/circle_plot.py runs/demo
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from neva_tl import plots
from neva_tl.plots.journal import Style, Width
from neva_tl.plots.needs import lacks_circle
from neva_tl.plots.pairing import two_conditions
from neva_tl.plots.paper import script, usable
from neva_tl.plots.style import of_condition

#: "column", "text" (both columns) or inches.
WIDTH: Width = "text"


def draw(run: Path, style: Style) -> Figure:
    """Arrows to the values that rise, at the largest matched gain (table leakage)."""
    leakage = usable(plots.read_table(run, "leakage"), lacks_circle)
    two = [of_condition(leakage, condition) for condition in two_conditions(leakage)]
    return plots.circle_plot(pd.concat(two), width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
