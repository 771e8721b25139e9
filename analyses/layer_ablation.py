"""Per-layer ablation study of a run folder: value x layer x {zero, mean, amplify}.

    python analyses/layer_ablation.py runs/demo

Uses the run's own model, prompts and settings (manifest.json), its statistics and its neurons; writes
RUN/tables/layers.parquet and .csv, which figures/layer_ablation.py draws.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from neva_tl.errors import NevaError


def main() -> int:
    """Run the analysis; one clear line where the folder is no run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder, for example runs/demo")
    args = parser.parse_args()
    manifest = args.run / "manifest.json"
    if not manifest.exists():
        print(f"layer_ablation: {args.run} is no run folder (make one with neva-tl run)", file=sys.stderr)
        return 2
    from neva_tl.study import layer_table

    try:
        table = layer_table(args.run, json.loads(manifest.read_text())["config"], progress=True)
    except NevaError as error:
        print(f"layer_ablation: {error}", file=sys.stderr)
        return error.exit_code
    print(table.round(3).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
