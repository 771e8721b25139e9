"""Figure 5: the circuit of one value, its neurons and the tokens that they raise or lower.

python figures/circuit.py runs/demo
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
#: The value; None takes the first.
VALUE: str | None = None
NEURONS, TOKENS = 8, 12


def draw(run: Path, style: Style) -> Figure:
    """The strongest links of one value (table circuit)."""
    circuit = plots.read_table(run, "circuit")
    return plots.circuit_plot(circuit, value=VALUE, neurons=NEURONS, tokens=TOKENS, width=WIDTH, style=style)


if __name__ == "__main__":
    sys.exit(script(__file__, draw))
