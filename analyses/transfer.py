"""Transfer of neurons and doses from one source of prompts to the others.

    python analyses/transfer.py --model smollm2 --source schwartz --source persona:../shared/data/persona \
        --source valueeval:../shared/data/valueeval --value power --value benevolence --rows 40 --items 8

    neva-tl prompts write qwen2.5-coder-0.5b --theory schwartz --value tradition --judge llm:qwen2.5-coder-1.5b --out own.csv
    python analyses/transfer.py --model qwen2.5-coder-0.5b --source own=own.csv --source schwartz \
        --source persona:../shared/data/persona --value tradition --phrasings 3

Sources may cover different values, with and without pairs; each value needs two sources. With three sources or more, rows
`leave SOURCE out` are selected on all other sources at once. `--phrasings 3` also scores the items under two other system
prompts. Writes OUT/tables/transfer and OUT/tables/transfer_overlap (parquet and CSV). After an interruption the same command
resumes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError, NevaError
from neva_tl.study.analyses.script import sample_options


def main() -> int:
    """Run the analysis; wrong input is an error of one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2", help="a model of neva_tl.load; not the demo model")
    parser.add_argument("--source", action="append", help="SPEC or NAME=SPEC, as in --prompts of neva-tl (repeatable)")
    parser.add_argument(
        "--value", action="append", help="steered value (repeatable); default: all values in every source"
    )
    parser.add_argument(
        "--measured", action="append", help="scored value (repeatable); default: all values in every source"
    )
    parser.add_argument("--method", action="append", help="method (repeatable); default: neva_shift and caa")
    parser.add_argument("--k", type=int, help="neurons of each value; default: the selector's rule")
    sample_options(parser, rows=80, validation=16, items=24)
    parser.add_argument("--selector", default="auto", help="selector on a single source; default: the study's")
    parser.add_argument("--no-leave-out", action="store_true", help="no rows selected on all sources but one")
    parser.add_argument(
        "--phrasings",
        type=int,
        default=1,
        help="system prompts to score under: the source's own, and others of ours (to 3)",
    )
    parser.add_argument(
        "--theory", default="schwartz", help="theory of the values, or its file; none: the values' names"
    )
    parser.add_argument("--dtype", default="float32", help="number format of the model")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    args = parser.parse_args()
    try:
        run(args)
    except NevaError as error:
        print(f"transfer: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def named(specs: list[str]) -> dict[str, str]:
    """Name the sources.

    Args:
        specs: `NAME=SPEC`; or `FORMAT:PATH`, named after its format; or a file, named after itself.

    Returns:
        name -> specification.

    Raises:
        InputError: Two sources have the same name.
    """
    sources: dict[str, str] = {}
    for text in specs:
        name, equals, spec = text.partition("=")
        if not equals:
            scheme, colon, _ = text.partition(":")
            name, spec = scheme if colon else Path(text).stem, text
        if name in sources:
            raise InputError(f"two sources are called {name!r}: write NAME=SPEC")
        sources[name] = spec
    return sources


def run(args: argparse.Namespace) -> None:
    """Measure, write the tables and print them."""
    import pandas as pd

    from neva_tl.study.analyses.transfer import TransferConfig, transfer
    from neva_tl.study.run.run_folder import RunFolder

    selection: dict[str, Any] = {
        name: tuple(names) for name, names in (("values", args.value), ("methods", args.method)) if names
    }
    config = TransferConfig(
        measured=tuple(args.measured) if args.measured else None,
        target=args.gain,
        dose=args.dose,
        k=args.k,
        rows=args.rows,
        validation=args.validation,
        items=args.items,
        seed=args.seed,
        dtype=args.dtype,
        theory=None if args.theory == "none" else args.theory,
        selector=args.selector,
        leave_out=not args.no_leave_out,
        phrasings=args.phrasings,
        **selection,
    )
    result = transfer(args.model, named(args.source or []), args.out, config, progress=True)
    store = RunFolder(args.out)
    store.write_table("tables/transfer", result.df)
    store.write_table("tables/transfer_overlap", result.overlap)
    with pd.option_context("display.width", 250, "display.max_columns", 30):
        print(f"gains in {result.unit} of the scored source's validation items")
        print(result.df.round(3).to_string(index=False))
        print(result.overlap.round(4).to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
