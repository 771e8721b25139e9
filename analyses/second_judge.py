"""Score the test texts of a run again with another judge.

    python analyses/second_judge.py runs/text --judge "llm:qwen2.5-coder-0.5b#oppose=no"

A model is never its own only judge, and no judge is right alone. Writes RUN/tables/second_judge (gain, wrong way and NLR by both
judges), second_judge_agreement and second_judge_texts. Nothing is generated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from neva_tl.study.analyses.script import script


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the judge and the bootstrap."""
    parser.add_argument(
        "--judge", required=True, help="the second judge: llm:MODEL, chat:MODEL, classifier:DIR, wordlist"
    )
    parser.add_argument("--draws", type=int, default=2000, help="bootstrap draws of the intervals")
    parser.add_argument("--seed", type=int, default=0)


def act(args: argparse.Namespace, manifest: Mapping[str, Any]) -> None:
    """Score the texts, write and print both judges' figures."""
    from neva_tl.study.analyses import second_judge
    from neva_tl.study.run.run_folder import RunFolder

    store = RunFolder(args.run)
    opinion = second_judge.second_opinion(
        store, args.judge, seed=args.seed, n_boot=args.draws, theory=manifest.get("theory")
    )
    second_judge.write(store, opinion)
    print(opinion)


if __name__ == "__main__":
    sys.exit(script("second_judge", __doc__ or "", act, options))
