"""Leakage study of a run folder: NLR of every method beside the main one, paired over prompts.

    python analyses/leakage.py runs/demo

Reads the item scores that `neva-tl run` kept, and writes RUN/tables/nlr_comparison.parquet and .csv: for each method and
gain its NLR, and the ratio and difference to `neva` on the same bootstrap draws, over the values that both reached.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from neva_tl.core.errors import NevaError


def main() -> int:
    """Run the analysis; one clear line where the folder is no run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder, for example runs/demo")
    args = parser.parse_args()
    if not (args.run / "results.json").exists():
        print(f"leakage: {args.run} holds no finished study (make one with neva-tl run)", file=sys.stderr)
        return 2
    from neva_tl.study.run.comparison import nlr_comparison
    from neva_tl.study.run.run_folder import RunFolder

    store = RunFolder(args.run)
    try:
        table = nlr_comparison(store, json.loads((args.run / "manifest.json").read_text())["seed"])
    except NevaError as error:
        print(f"leakage: {error}", file=sys.stderr)
        return error.exit_code
    store.write_table("tables/nlr_comparison", table)
    with pd.option_context("display.width", 160):
        print(table.round(3).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
