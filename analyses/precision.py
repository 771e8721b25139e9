"""One model in float32, with matrix products in bfloat16, and in bfloat16: what differs, and by how much.

    python analyses/precision.py --model smollm2 --value power --value benevolence --out runs/precision

Writes OUT/tables/precision (parquet and CSV). After an interruption the same command resumes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from neva_tl.core.errors import NevaError
from neva_tl.study.analyses.script import sample_options


def main() -> int:
    """Run the analysis; wrong input is an error of one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2", help="a name for neva_tl.load")
    parser.add_argument("--prompts", default="schwartz", help="as --prompts of neva-tl")
    parser.add_argument("--value", action="append", help="value (repeatable); default: all values of the prompts")
    parser.add_argument("--method", default="neva_shift", help="method of the edit")
    parser.add_argument("--k", type=int, default=200, help="neurons of each value, the best by effect size")
    parser.add_argument("--neutral", type=int, default=20, help="neutral texts")
    sample_options(parser, rows=40, validation=12, items=24)
    parser.add_argument("--out", type=Path, default=Path("runs/precision"))
    args = parser.parse_args()
    try:
        run(args)
    except NevaError as error:
        print(f"precision: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(args: argparse.Namespace) -> None:
    """Measure, write the table and print it."""
    import pandas as pd

    from neva_tl.study.analyses.precision import PrecisionConfig, compare_precision
    from neva_tl.study.run.run_folder import RunFolder

    config = PrecisionConfig(
        values=tuple(args.value or ()),
        prompts=args.prompts,
        method=args.method,
        target=args.gain,
        dose=args.dose,
        k=args.k,
        rows=args.rows,
        validation=args.validation,
        items=args.items,
        neutral=args.neutral,
        seed=args.seed,
    )
    table = compare_precision(args.model, args.out, config, progress=True)
    RunFolder(args.out).write_table("tables/precision", table)
    with pd.option_context("display.width", 220, "display.max_columns", 40):
        print(table.round(4).to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
