"""Circuits of a run's values, searched on train texts and measured on test texts.

    python analyses/circuits.py runs/demo
    python analyses/circuits.py runs/smollm2 --value power --size 60 --size 400 --texts 24

Random graphs of the same size are measured too. Uses the run's model, prompts and neurons; writes RUN/circuits/VALUE.json,
RUN/tables/circuits.parquet and .csv (which figures/faithfulness.py draws) and the report again. Finished values are stored:
after an interruption the same command resumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from neva_tl.study.analyses.circuits import Effort, circuits_of_run
from neva_tl.study.analyses.script import model_option, script


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the search."""
    model_option(parser)
    parser.add_argument("--value", action="append", help="only this value (repeatable)")
    parser.add_argument("--size", type=int, action="append", dest="sizes", help="sizes of the curve (repeatable)")
    parser.add_argument("--drawn", type=int, help="size of the graph in the report (default 60)")
    parser.add_argument("--texts", type=int, help="texts per pole (default 96)")
    parser.add_argument("--batch", type=int, help="texts per pole in one round of the search (default 48)")
    parser.add_argument("--exchanges", type=int, help="rounds of exchange per size (default 4)")
    parser.add_argument("--edge-texts", type=int, help="texts per pole for the measurement of edges (default 16)")
    parser.add_argument("--random", type=int, dest="n_random", help="random graphs per size (default 5)")
    parser.add_argument("--lead", help="text appended to every text, so that a value's word is likely next")


def act(args: argparse.Namespace, _manifest: Mapping[str, Any]) -> None:
    """Search, measure, draw, and print the curves."""
    supplied = {field.name: getattr(args, field.name) for field in fields(Effort)}
    changes: dict[str, Any] = {n: tuple(x) if n == "sizes" else x for n, x in supplied.items() if x is not None}
    effort = replace(Effort(), **changes)
    table = circuits_of_run(args.run, values=args.value, effort=effort, model_name=args.model, progress=True)
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    sys.exit(script("circuits", __doc__, act, options))
