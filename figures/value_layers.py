"""Figure 6: where value neurons live, values by layers.

python figures/value_layers.py runs/demo
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
    """Share of each value's selected neurons per layer (table neurons)."""
    neurons = plots.read_table(run, "neurons")
    return plots.value_layers_plot(neurons, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
