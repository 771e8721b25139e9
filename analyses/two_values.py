"""Two values steered together, by composed NeVA edits or added vectors.

    python analyses/two_values.py runs/demo
    python analyses/two_values.py runs/demo --pair power,security --pair power,universalism --share 1 --share .5

Pairs are compatible or opposed. Each edit has the dose that the run matched for its value alone (--share: a fraction of it).
Writes RUN/tables/two_values and two_values_kinds (parquet and CSV) and RUN/two_values.json. Every cell is stored: after an
interruption the same command resumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from neva_tl.study.analyses.script import script


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the analysis."""
    parser.add_argument("--pair", action="append", default=[], help="two values of the run, A,B (repeatable)")
    parser.add_argument("--method", action="append", default=[], help="method of the run (repeatable)")
    parser.add_argument(
        "--share", action="append", type=float, default=[], help="fraction of each edit's dose; default 1"
    )
    parser.add_argument("--shared", default="sum", help="rule for neurons of both sets: sum, mean, strongest or refuse")
    parser.add_argument("--target", type=float, help="one of the run's target gains; default its main one")
    parser.add_argument("--model", help="name or folder of the run's model; default: the one that the run recorded")


def act(args: argparse.Namespace, _manifest: Mapping[str, Any]) -> None:
    """Measure, write the tables and print them."""
    import pandas as pd

    from neva_tl.core.errors import InputError
    from neva_tl.study.analyses.reopened_run import Run
    from neva_tl.study.analyses.two_values import TwoConfig, two_values

    run = Run.open(args.run)
    pairs = []
    for text in args.pair:
        names = tuple(name.strip() for name in text.split(","))
        if len(names) != 2:
            raise InputError(f"a pair is two values separated by a comma, not {text!r}")
        pairs.append((names[0], names[1]))
    config = TwoConfig(tuple(pairs), tuple(args.method), tuple(args.share) or (1.0,), args.shared, args.target)
    tables, numbers = two_values(run, run.load_model(args.model), config, progress=True)
    for name, table in tables.items():
        run.store.write_table(f"tables/{name}", table)
    run.store.write_json("two_values.json", numbers)
    with pd.option_context("display.width", 250, "display.max_columns", 40):
        for table in tables.values():
            print(table.round(3).to_string(index=False))
        print(pd.json_normalize(numbers["differences"]).round(3).to_string(index=False))


if __name__ == "__main__":
    sys.exit(script("two_values", __doc__, act, options))
