"""Figure 9: neurons that two values share, beside what chance would give.

python figures/overlap.py runs/demo
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from neva_tl import plots
from neva_tl.plots.journal import Style, Width
from neva_tl.plots.needs import lacks_second_set
from neva_tl.plots.paper import script, usable

#: "column", "text" (both columns) or inches.
WIDTH: Width = "column"


def draw(run: Path, style: Style) -> Figure:
    """Shared neurons of every pair of values (table neurons)."""
    neurons = usable(plots.read_table(run, "neurons"), lacks_second_set)
    return plots.overlap_plot(neurons, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
