"""Figure 7: dose and response, gain, leakage and invalid texts of each method.

python figures/dose_response.py runs/demo
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
#: Methods, a column each; empty takes all.
METHODS: tuple[str, ...] = ()
#: Split of the prompts: validation or test; None takes the larger one.
SPLIT: str | None = None


def draw(run: Path, style: Style) -> Figure:
    """The doses of the search, inadmissible ones crossed (table dose)."""
    dose = plots.read_table(run, "dose")
    dose = dose[dose["method"].isin(METHODS)] if METHODS else dose
    return plots.dose_response(dose, split=SPLIT, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
