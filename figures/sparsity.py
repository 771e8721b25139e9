"""Figure 8b: how few neurons suffice, gain against the number of neurons edited.

python figures/sparsity.py runs/demo
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from neva_tl import plots
from neva_tl.plots.journal import Style, Width
from neva_tl.plots.paper import script

#: "column", "text" (both columns) or inches.
WIDTH: Width = "column"


def draw(run: Path, style: Style) -> Figure:
    """Gain at one dose as neurons are left out (table sparsity_curve)."""
    curve = plots.read_table(run, "sparsity_curve")
    return plots.sparsity_plot(curve, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
