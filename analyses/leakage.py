"""NLR of every method of a run, compared with that of the main method.

    python analyses/leakage.py runs/demo

Reads the item scores of `neva-tl run`, and writes RUN/tables/nlr_comparison.parquet and .csv: for each method and gain its
NLR, and the ratio and difference to `neva` on the same bootstrap draws, over the values that both reached.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.study.analyses.script import script


def act(args: argparse.Namespace, manifest: Mapping[str, Any]) -> None:
    """Compare, write the table and print it."""
    import pandas as pd

    from neva_tl.study.run.comparison import nlr_comparison
    from neva_tl.study.run.run_folder import RunFolder

    store = RunFolder(args.run)
    if not store.has("results.json"):
        raise InputError(f"{args.run} holds no finished study (make one with neva-tl run)")
    table = nlr_comparison(store, manifest["seed"])
    store.write_table("tables/nlr_comparison", table)
    with pd.option_context("display.width", 160):
        print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    sys.exit(script("leakage", __doc__, act))
