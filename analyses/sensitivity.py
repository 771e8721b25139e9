"""Sensitivity of a run to single factors, and gain against the number of neurons.

    python analyses/sensitivity.py runs/demo --value all
    python analyses/sensitivity.py runs/smollm2 --factor k --factor part --value power

Factors are k, dose, lambda, layers, pairs and the parts of NeVA. One factor varies at a time around the run's setting (`as
run`), each level at the dose that reaches the target gain on validation prompts; figures are of test prompts. Writes
RUN/tables/sensitivity, sensitivity_values, sparsity and sparsity_curve (parquet and CSV) and RUN/sensitivity.json. Every cell
is stored: after an interruption the same command resumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from neva_tl.study.analyses.script import script


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the analysis."""
    parser.add_argument(
        "--value", action="append", default=[], help="value of the run (repeatable), or all; default three"
    )
    parser.add_argument(
        "--factor",
        action="append",
        default=[],
        help="k, dose, lam, lam_write, layers, pairs or part (repeatable); default all",
    )
    parser.add_argument("--method", action="append", default=[], help="neva or neva_shift (repeatable); default both")
    parser.add_argument("--target", type=float, help="one of the run's target gains; default its smallest")
    parser.add_argument("--model", help="name or folder of the run's model; default: the one that the run recorded")


def act(args: argparse.Namespace, _manifest: Mapping[str, Any]) -> None:
    """Measure, write the tables and print them."""
    import pandas as pd

    from neva_tl.study.analyses.reopened_run import Run
    from neva_tl.study.analyses.sensitivity import SensitivityConfig, sensitivity
    from neva_tl.study.analyses.sparsity import sparsity

    run = Run.open(args.run)
    config = SensitivityConfig(tuple(args.value), tuple(args.factor), tuple(args.method), args.target).of_run(run)
    model = run.load_model(args.model)
    tables, numbers = sensitivity(run, model, config, progress=True)
    if "k" in config.factors:
        sparsity_tables, sparsity_numbers = sparsity(run, model, config, progress=True)
        tables, numbers = tables | sparsity_tables, numbers | {"sparsity": sparsity_numbers}
    for name, table in tables.items():
        run.store.write_table(f"tables/{name}", table)
    run.store.write_json("sensitivity.json", numbers)
    columns = [
        "factor",
        "level",
        "method",
        "neurons",
        "values",
        "reached",
        "gain",
        "leakage",
        "nlr",
        "nlr_lo",
        "nlr_hi",
    ]
    columns += ["nlr_less_own", "invalid", "ppl", "kl", "acc", "dose"]
    with pd.option_context("display.width", 220, "display.max_columns", 30):
        print(tables["sensitivity"].reindex(columns=columns).round(3).to_string(index=False))
        if "sparsity" in tables:
            print(tables["sparsity"].round(4).to_string(index=False))


if __name__ == "__main__":
    sys.exit(script("sensitivity", __doc__, act, options))
