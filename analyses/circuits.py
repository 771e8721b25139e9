"""Circuits of a run's values: searched on train texts, measured on test texts beside random graphs of their size.

    python analyses/circuits.py runs/demo
    python analyses/circuits.py runs/smollm2 --value power --size 60 --size 400 --texts 24

Uses the run's own model, prompts and neurons; writes RUN/circuits/VALUE.json, RUN/tables/circuits.parquet and .csv (which
figures/faithfulness.py draws) and the report again. Values that are done are kept: a killed run goes on.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from neva_tl.errors import NevaError


def main() -> int:
    """Run the analysis; one clear line where the folder is no run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder, for example runs/demo")
    parser.add_argument("--value", action="append", help="only this value (repeatable)")
    parser.add_argument("--size", type=int, action="append", help="sizes of the curve (repeatable)")
    parser.add_argument("--drawn", type=int, help="size of the graph that is drawn (default 60)")
    parser.add_argument("--texts", type=int, help="texts per pole (default 96)")
    parser.add_argument("--batch", type=int, help="texts per pole in one round of the search (default 48)")
    parser.add_argument("--exchanges", type=int, help="rounds of exchange per size (default 4)")
    parser.add_argument("--edge-texts", type=int, help="texts per pole on which edges are measured (default 16)")
    parser.add_argument("--random", type=int, dest="n_random", help="random graphs per size (default 5)")
    args = parser.parse_args()
    from neva_tl.study.circuits import Effort, circuits_of_run

    given = {
        "sizes": tuple(args.size) if args.size else None,
        **{name: getattr(args, name) for name in ("drawn", "texts", "batch", "exchanges", "edge_texts", "n_random")},
    }
    try:
        effort = replace(Effort(), **{name: item for name, item in given.items() if item is not None})
        table = circuits_of_run(args.run, values=args.value, effort=effort, progress=True)
    except NevaError as error:
        print(f"circuits: {error}", file=sys.stderr)
        return error.exit_code
    print(table.round(3).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
