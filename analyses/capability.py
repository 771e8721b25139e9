"""Capability of edited models on public sets, compared with the unedited model.

    python analyses/capability.py runs/smollm2 --data ../shared/data --method neva --method caa --limit 200
    python analyses/capability.py runs/smollm2 --data ../shared/data --set piqa --set mmlu_cloze --value achievement

Edits come from the run folder, at its matched doses, without another collection. Writes capability.parquet and .csv to
RUN/tables (or --out): a row per set, metric, method and value, and one per method with the mean over its values. A run on a
local folder needs --model FOLDER; this command makes a run of the stories model:

    neva-tl run --model ../shared/models/stories3M --prompts schwartz --profile quick --value power --value security \
        --method neva --method caa --out runs/stories3M
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neva_tl.study.analyses.script import script


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the analysis."""
    parser.add_argument("--data", required=True, help="folder with blimp/, lambada/, mmlu/, multiple_choice/, ...")
    parser.add_argument("--set", action="append", default=[], help="only this set (repeatable)")
    parser.add_argument(
        "--method", action="append", default=[], help="method of the run (repeatable); default neva, caa"
    )
    parser.add_argument("--value", action="append", default=[], help="value of the run (repeatable); default all")
    parser.add_argument("--limit", type=int, help="items of each set, selected by hash; default all")
    parser.add_argument("--span", default="text", help="tokens that count as generated: text or answer")
    parser.add_argument("--model", help="default: the run's model")
    parser.add_argument("--out", type=Path, help="folder for the table; default RUN/tables")


def act(args: argparse.Namespace, manifest: Mapping[str, Any]) -> None:
    """Score, compare, write the table and print the means."""
    from neva_tl.evaluation.benchmarks import data_sets, read_benchmarks
    from neva_tl.study.analyses.capability import run_capability
    from neva_tl.study.analyses.reopened_run import Run
    from neva_tl.study.run.run_folder import RunFolder

    run = Run.open(args.run)
    specs = data_sets(args.data, tuple(args.set))
    benchmarks = [benchmark.limit(args.limit) for spec in specs for benchmark in read_benchmarks(spec)]
    store = RunFolder(args.out or args.run / "tables")
    methods = tuple(args.method or ("neva", "caa"))
    table = run_capability(
        store, run, run.load_model(args.model), benchmarks, methods, tuple(args.value), span=args.span,
        seed=manifest["seed"], progress=True,
    )  # fmt: skip
    store.write_table("capability", table)
    print(table[table["value"].str.startswith("mean")].round(3).to_string(index=False))


if __name__ == "__main__":
    sys.exit(script("capability", __doc__, act, options))
