"""Figure 4: which layers matter, when the value neurons of one layer at a time are ablated or amplified.

python figures/layer_ablation.py runs/demo
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
#: Operations, a column each: zero, mean, amplify.
OPERATIONS = ("zero", "mean", "amplify")


def draw(run: Path, style: Style) -> Figure:
    """Change of score and loss per layer, operation and group of neurons (table layers)."""
    layers = plots.read_table(run, "layers")
    layers = layers[layers["operation"].isin(OPERATIONS)]
    return plots.layer_ablation(layers, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
