"""Leakage of a run's methods, corrected for the confusions of its judge.

    python analyses/judge_correction.py runs/leakage --labels valueeval:../shared/data/valueeval
    python analyses/judge_correction.py runs/judged --labels runs/judged/annotations/me.labels.jsonl --method neva --method caa

The run's judge scores held-out labelled texts; the analysis estimates its mixing matrix there and removes it from the
leakage (`neva_tl.evaluation.judge_quality.mixing`). Writes RUN/correction.json and RUN/tables/leakage_corrected,
csr_corrected and judge_mixing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from neva_tl.study.analyses.script import script


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of labels, methods and number of labelled texts."""
    parser.add_argument("--labels", help="valueeval:DIR, x.csv or x.jsonl; default: the judge's source")
    parser.add_argument("--method", action="append", help="only this method (repeatable); default: all of the run")
    parser.add_argument("--split", default="test", help="split of the labelled texts")
    parser.add_argument("--limit", type=int, default=0, help="largest number of labelled texts (0: all)")


def act(args: argparse.Namespace, manifest: Mapping[str, Any]) -> None:
    """Correct each method at its largest gain, write and print the results."""
    from neva_tl.study.analyses import correction
    from neva_tl.study.run.run_folder import RunFolder

    judge = correction.text_judge(manifest["config"]["judge"])
    judged = correction.judged_labels(judge, args.labels, split=args.split, limit=args.limit)
    methods = args.method or list(dict.fromkeys(RunFolder(args.run).read_table("tables/leakage")["method"]))
    corrections = []
    for method in methods:
        target = correction.headline_target(args.run, method)
        corrections.append((correction.corrected(args.run, method, labels=judged, target=target), target))
        print(corrections[-1][0])
    correction.write(args.run, corrections)
    print(corrections[0][0].note)


if __name__ == "__main__":
    sys.exit(script("judge_correction", __doc__ or "", act, options))
