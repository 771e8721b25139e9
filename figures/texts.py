"""Figure 1: what steering does, the same prompts unedited and steered side by side.

python figures/texts.py runs/demo
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
#: Steered value and method; None takes the value of the median change, and the first method that writes texts.
VALUE: str | None = None
METHOD: str | None = None
#: Number of prompts, and of words of a text.
PROMPTS, WORDS = 4, 24


def draw(run: Path, style: Style) -> Figure:
    """Texts of evenly spaced ranks of the change in score, failures included (table generations)."""
    generations = plots.read_table(run, "generations")
    return plots.texts_plot(
        generations, value=VALUE, method=METHOD, rows=PROMPTS, words=WORDS, width=WIDTH, style=style
    )


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
