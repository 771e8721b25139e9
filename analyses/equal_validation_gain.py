"""Compare a text-judged run's neuron edits with its vectors at doses of equal validation gain.

    python analyses/equal_validation_gain.py runs/text
    python analyses/equal_validation_gain.py runs/text --ours neva_shift --rival persona_vector --model models/qwen

Doses come from the run's search on validation prompts; those that the run did not measure are measured on its test prompts by
its judge. Writes RUN/tables/equal_validation_gain_doses and equal_validation_gain: test gain, NLR, KL, perplexity and invalid
texts of both methods. After an interruption the same command resumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from neva_tl.study.analyses.script import model_option, script


def options(parser: argparse.ArgumentParser) -> None:
    """Add the methods, the bootstrap and the model."""
    parser.add_argument("--ours", action="append", default=[], help="neuron method (repeatable); default: all of ours")
    parser.add_argument("--rival", action="append", default=[], help="vector method (repeatable); default: all")
    parser.add_argument("--draws", type=int, default=2000, help="bootstrap draws of the intervals")
    parser.add_argument("--seed", type=int, default=0)
    model_option(parser)


def act(args: argparse.Namespace, manifest: Mapping[str, Any]) -> None:
    """Measure, write and print."""
    from neva_tl.study.analyses.method_comparison import printed
    from neva_tl.study.analyses.reopened_run import Run
    from neva_tl.study.analyses.text_values.conditions import join_runs
    from neva_tl.study.analyses.text_values.equal_gain import TABLE, joined_table, measure_equal_gain

    run = Run.open(args.run)
    measure_equal_gain(run, run.load_model(args.model), args.ours, args.rival)
    joined = join_runs([args.run], seed=args.seed, n_boot=args.draws)
    table = joined_table(joined)
    run.store.write_table(TABLE, table)
    columns = ["ours", "rival", "value", "validation_gain", "dose_ours", "dose_rival", "gain_ours", "gain_rival"]
    columns += ["nlr_ours", "nlr_rival", "nlr_ratio", "kl_ours", "kl_rival", "kl_ratio"]
    print(f"{manifest['model']['name']}, change of {joined.unit} by {joined.judge}, test prompts")
    print(printed(table, [*columns, "perplexity_ratio_ours", "perplexity_ratio_rival"]))


if __name__ == "__main__":
    sys.exit(script("equal_validation_gain", __doc__ or "", act, options))
