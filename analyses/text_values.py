"""Join text-judged runs of one model that differ in values or seeds, and evaluate the study's goals.

    python analyses/text_values.py runs/text --out runs/text_values
    python analyses/text_values.py runs/text-0 runs/text-1 runs/text-2 --out runs/text_values

Writes OUT/tables/text_values, text_means, text_pairs, text_equal_gain and text_goals (.parquet, .csv), OUT/text_values.json and
OUT/text_values.md, and prints the last one. Runs share model, judge, matched gain and test prompts. Leakage and KL at equal gain
need analyses/equal_validation_gain.py on each run first. Nothing is generated here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from neva_tl.core.errors import NevaError


def main() -> int:
    """Read, write and print; an error is one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of text-judged runs")
    parser.add_argument("--out", type=Path, default=Path("runs/text_values"))
    parser.add_argument("--draws", type=int, default=2000, help="bootstrap draws of the intervals")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from neva_tl.study.analyses.text_values.result import text_values

    try:
        result = text_values(args.runs, seed=args.seed, n_boot=args.draws)
        result.write(args.out)
    except NevaError as error:
        print(f"text_values: {error}", file=sys.stderr)
        return error.exit_code
    print(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
