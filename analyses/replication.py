"""Comparison of methods over several models: seeds of the demo model, or worlds.

    python analyses/replication.py runs/science/demo runs/science/seed1 runs/science/seed2 --out runs/science --name seeds

The folders are those of analyses/method_comparison.py. Worlds share more or fewer words between values. Writes OUT/tables/NAME,
NAME_mean and NAME_contests (.parquet, .csv) and OUT/NAME.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from neva_tl.core.errors import NevaError


def main() -> int:
    """Read, write and print; an error is one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="folders of comparisons")
    parser.add_argument("--out", type=Path, default=Path("runs/science"))
    parser.add_argument("--name", default="replication", help="name of the tables")
    args = parser.parse_args()
    from neva_tl.study.analyses.method_comparison import printed
    from neva_tl.study.analyses.replication import over_replicates, replicates
    from neva_tl.study.run.run_folder import RunFolder

    try:
        conditions, contests = replicates({folder.name: folder for folder in args.folders})
        mean = over_replicates(conditions)
    except NevaError as error:
        print(f"replication: {error}", file=sys.stderr)
        return error.exit_code
    store = RunFolder(args.out)
    for name, table in ((args.name, conditions), (f"{args.name}_mean", mean), (f"{args.name}_contests", contests)):
        store.write_table(f"tables/{name}", table)
    results = {
        "replicates": [f.name for f in args.folders],
        "mean": mean.to_dict("records"),
        "contests": contests.to_dict("records"),
    }
    store.write_json(f"{args.name}.json", results)
    columns = [
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
    print(printed(mean, [*columns, "loss_acc_mean"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
