"""All methods at matched gains, without a gate and with the relevance gate.

    python analyses/method_comparison.py --model demo --out runs/science/demo
    python analyses/method_comparison.py --model smollm2 --gates none --out runs/science/smollm2

Methods edit neurons, add vectors or change the prompt; placebos are included. Runs one study per setting of the relevance gate
into OUT/gate-none and OUT/gate-relevance (as `neva-tl run` does: an interrupted study resumes, further methods are added to
those of an existing study), then writes OUT/tables/method_comparison, method_contests, method_curves, gain_curves, equal_gain
and equal_gain_reached (.parquet, .csv), OUT/method_comparison.json and OUT/figures/gain_curves. Doses are matched on validation
prompts; figures are on test prompts, at the matched doses and (equal_gain: over all values, equal_gain_reached: over those that
both methods reached) where test gains are equal.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from neva_tl.core.errors import NevaError


def main() -> int:
    """Run, combine and print; an error is one line."""
    from neva_tl.study.analyses.method_comparison import DEMO_ONLY, GATES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--prompts", default="auto")
    parser.add_argument("--judge", default="auto")
    parser.add_argument("--profile", default="quick", help="quick or full")
    parser.add_argument("--gates", nargs="+", default=list(GATES), choices=GATES, help="settings of the relevance gate")
    parser.add_argument(
        "--methods", nargs="+", help=f"default: all, on real models without {', '.join(sorted(DEMO_ONLY))}"
    )
    parser.add_argument("--values", nargs="+", help="steered values; default: all ten")
    parser.add_argument(
        "--targets",
        nargs="+",
        type=float,
        help="matched gains; default: the profile's on the demo model, else .2 .4 .6",
    )
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        compare(args)
    except NevaError as error:
        print(f"method_comparison: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def compare(args: argparse.Namespace) -> None:
    """Run the studies, write the comparison and print it."""
    from neva_tl.plots import write_figures
    from neva_tl.study import Study
    from neva_tl.study.analyses import method_comparison

    started = time.monotonic()
    targets = method_comparison.targets_for(args.model) if args.targets is None else tuple(args.targets)
    overrides: dict[str, Any] = {} if targets is None else {"targets": targets}
    for gate in args.gates:
        study = Study(
            args.model, prompts=args.prompts, judge=args.judge, profile=args.profile, gate=gate, seed=args.seed,
            methods=tuple(args.methods or method_comparison.methods_for(args.model)), values=tuple(args.values or ()),
            dtype=args.dtype, overrides=overrides,
        )  # fmt: skip
        # statistics and neurons do not depend on the gate: an existing study of another gate has them
        others = (args.out / f"gate-{other}" for other in method_comparison.GATES if other != gate)
        like = next((folder for folder in others if (folder / "results.json").exists()), None)
        study.run(args.out / f"gate-{gate}", workers=args.workers, progress=True, like=like)
    comparison = method_comparison.write(args.out, seed=args.seed, seconds=time.monotonic() - started)
    write_figures(args.out, ("gain_curves",))
    print(comparison)


if __name__ == "__main__":
    sys.exit(main())
