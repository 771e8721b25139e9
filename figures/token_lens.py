"""Supplement: the logit lens on one text, token by token.

python figures/token_lens.py runs/demo
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
    """The most likely token per layer and position (table lens_tokens)."""
    tokens = plots.read_table(run, "lens_tokens")
    return plots.token_lens_plot(tokens, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
