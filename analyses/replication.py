"""Comparisons of several models side by side: seeds of the demo model, or worlds that share more or fewer words.

    python analyses/replication.py runs/science/demo runs/science/seed1 runs/science/seed2 --out runs/science --name seeds

Each folder was written by analyses/method_comparison.py. Writes OUT/tables/NAME, NAME_mean and NAME_contests (.parquet, .csv)
and OUT/NAME.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from neva_tl.core.errors import NevaError


def main() -> int:
    """Read, write, print; one clear line where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="comparisons")
    parser.add_argument("--out", type=Path, default=Path("runs/science"))
    parser.add_argument("--name", default="replication", help="of the tables")
    args = parser.parse_args()
    from neva_tl.study.analyses.method_comparison import printed
    from neva_tl.study.analyses.replication import over_replicates, replicates
    from neva_tl.study.run.run_folder import RunFolder

    try:
        conditions, held = replicates({folder.name: folder for folder in args.folders})
        mean = over_replicates(conditions)
    except NevaError as error:
        print(f"replication: {error}", file=sys.stderr)
        return error.exit_code
    store = RunFolder(args.out)
    for name, table in ((args.name, conditions), (f"{args.name}_mean", mean), (f"{args.name}_contests", held)):
        store.write_table(f"tables/{name}", table)
    found = {
        "replicates": [f.name for f in args.folders],
        "mean": mean.to_dict("records"),
        "contests": held.to_dict("records"),
    }
    store.write_json(f"{args.name}.json", found)
    shown = [
        "border_rate",
        "method",
        "gate",
        "target_gain",
        "reached",
        "gain_mean",
        "nlr_mean",
        "nlr_low",
        "nlr_high",
        "kl_mean",
    ]
    print(printed(mean, [*shown, "loss_acc_mean"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
