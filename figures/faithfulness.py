"""Supplement: faithfulness and completeness of the circuits against their size.

python figures/faithfulness.py runs/demo
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
    """One line per value, beside random circuits of the same size (table circuits)."""
    circuits = plots.read_table(run, "circuits")
    return plots.faithfulness_plot(circuits, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
