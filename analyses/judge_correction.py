"""Leakage of a run's methods without what its judge mixes up.

    python analyses/judge_correction.py runs/leakage --labels valueeval:../shared/data/valueeval
    python analyses/judge_correction.py runs/judged --labels runs/judged/annotations/me.labels.jsonl --method neva --method caa

The run's judge of texts reads held-out labelled texts; its mixing matrix is estimated there and taken out of the leakage
(`neva_tl.evaluation.judge_quality.mixing`). Writes RUN/correction.json and
RUN/tables/leakage_corrected, csr_corrected and judge_mixing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from neva_tl.study.analyses.script import script


def options(parser: argparse.ArgumentParser) -> None:
    """Labels, methods and how many labelled texts are read."""
    parser.add_argument("--labels", help="valueeval:DIR, x.csv or x.jsonl; default: the judge's own source")
    parser.add_argument("--method", action="append", help="only this method (repeatable); default: all of the run")
    parser.add_argument("--split", default="test", help="part of the labelled texts to use")
    parser.add_argument("--limit", type=int, default=0, help="read at most so many labelled texts (0: all)")


def act(args: argparse.Namespace, manifest: Mapping[str, Any]) -> None:
    """Correct each method at its largest gain, write the tables, print the numbers."""
    from neva_tl.study.analyses import correction
    from neva_tl.study.run.run_folder import RunFolder

    judge = correction.text_judge(manifest["config"]["judge"])
    judged = correction.judged_labels(judge, args.labels, split=args.split, limit=args.limit)
    methods = args.method or list(dict.fromkeys(RunFolder(args.run).read_table("tables/leakage")["method"]))
    found = []
    for method in methods:
        target = correction.headline_target(args.run, method)
        found.append((correction.corrected(args.run, method, labels=judged, target=target), target))
        print(found[-1][0])
    correction.write(args.run, found)
    print(found[0][0].note)


if __name__ == "__main__":
    sys.exit(script("judge_correction", __doc__ or "", act, options))
