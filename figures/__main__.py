"""All figures of a run: every script of this folder, in the order of a paper; a figure without its table says what writes it.

python figures runs/demo [--style icml|neurips|acl|nature] [--out FOLDER]
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from neva_tl.core.messages import notice
from neva_tl.plots.paper import script

#: The figures of the paper in their order; all others are supplements.
PAPER = (
    "texts", "gain_cost", "leakage_heatmap", "layer_ablation", "circuit", "value_layers", "dose_response", "sensitivity",
    "sparsity", "overlap", "judges",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Draw every figure; return the highest exit status, 0 where figures only lack their tables."""
    if not arguments or not Path(arguments[0]).is_dir():
        notice(f"figures: {arguments[0] if arguments else 'RUN'} is not a run folder: python figures runs/demo")
        return 2
    folder = Path(__file__).resolve().parent
    names = {path.stem for path in folder.glob("[!_]*.py")}
    status = 0
    for name in (*PAPER, *sorted(names - set(PAPER))):
        path = folder / f"{name}.py"
        status = max(status, script(str(path), runpy.run_path(str(path))["draw"], [*arguments, "--skip-missing"]))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
