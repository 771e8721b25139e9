"""Figure 3: leakage of two methods, each value steered (rows) and measured (columns).

python figures/leakage_heatmap.py runs/demo
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from neva_tl import plots
from neva_tl.plots.journal import Style, Width
from neva_tl.plots.needs import lacks_others
from neva_tl.plots.pairing import two_conditions
from neva_tl.plots.paper import script, usable
from neva_tl.plots.style import of_condition

#: "column", "text" (both columns) or inches.
WIDTH: Width = "text"
#: The two methods; empty takes the first on neurons and the first of another kind.
METHODS: tuple[str, ...] = ()


def draw(run: Path, style: Style) -> Figure:
    """Two methods at the largest matched gain, on one colour scale (table leakage)."""
    leakage = usable(plots.read_table(run, "leakage"), lacks_others)
    if METHODS:
        leakage = leakage[leakage["method"].isin(METHODS)]
    two = [of_condition(leakage, condition) for condition in two_conditions(leakage)]
    return plots.leakage_heatmap(pd.concat(two), columns=2, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
