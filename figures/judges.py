"""Figure 10: how well the judges of texts recognise values.

python figures/judges.py runs/judges
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
    """Quality of every judge (table judges, of a run of analyses/judge_quality.py)."""
    judges = plots.read_table(run, "judges")
    return plots.judges_plot(judges, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
