"""Every method at matched gains behind every gate: neurons, vectors, prompts and placebos side by side.

    python analyses/method_comparison.py --model demo --out runs/science/demo
    python analyses/method_comparison.py --model smollm2 --gates none --out runs/science/smollm2

Runs one study per setting of the relevance gate into OUT/gate-none and OUT/gate-relevance (as `neva-tl run` does: resumed
where they stopped, further methods are taken beside those there), then writes OUT/tables/method_comparison, method_contests,
method_curves, gain_curves, equal_gain and equal_gain_reached (.parquet, .csv), OUT/method_comparison.json and
OUT/figures/gain_curves. Doses are matched on validation prompts; figures are on test prompts, at the matched doses and
(equal_gain: over all values, equal_gain_reached: over those that both methods reached) where test gains are equal.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from neva_tl.core.errors import NevaError


def main() -> int:
    """Run, combine, print; one clear line where something is wrong."""
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
    parser.add_argument("--values", nargs="+", help="steered towards; default: all ten")
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
    """The studies, then what is made of them."""
    from neva_tl.core.values import VALUES
    from neva_tl.plots import write_figures
    from neva_tl.study import Study
    from neva_tl.study.analyses import method_comparison

    started = time.monotonic()
    targets = method_comparison.targets_for(args.model) if args.targets is None else tuple(args.targets)
    overrides = {} if targets is None else {"targets": targets}
    for gate in args.gates:
        study = Study(
            args.model, prompts=args.prompts, judge=args.judge, profile=args.profile, gate=gate, seed=args.seed,
            methods=tuple(args.methods or method_comparison.methods_for(args.model)), values=tuple(args.values or VALUES),
            dtype=args.dtype, overrides=overrides,
        )  # fmt: skip
        # what is found before anything is edited knows no gate: the study that is there already has it
        others = (args.out / f"gate-{other}" for other in method_comparison.GATES if other != gate)
        like = next((folder for folder in others if (folder / "results.json").exists()), None)
        study.run(args.out / f"gate-{gate}", workers=args.workers, progress=True, like=like)
    found = method_comparison.write(args.out, seed=args.seed, seconds=time.monotonic() - started)
    write_figures(args.out, ("gain_curves",))
    print(found)


if __name__ == "__main__":
    sys.exit(main())
