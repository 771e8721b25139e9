"""Supplement: the logit lens, where in the network the edit moves the value's tokens.

python figures/logit_lens.py runs/demo
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
    """Change per layer of the value's logits (table lens)."""
    lens = plots.read_table(run, "lens")
    return plots.logit_lens_plot(lens, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
