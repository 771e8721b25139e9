"""Supplement: number of selected neurons per layer and value, shaded by their effect size.

python figures/layer_profile.py runs/demo
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
    """Bars per layer, a row per value (table neurons)."""
    neurons = plots.read_table(run, "neurons")
    return plots.layer_profile(neurons, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
