"""Selectors on random models with planted neurons, and on shuffled poles.

    python analyses/planted_neurons.py --models 12 --pairs 100 --out runs/planted

Measures recall, false discoveries, admitted decoys and ranking. Random models of 4 layers x 512 neurons get neurons that read
and write a value, some of them two, and decoys that read and do not write, or write elsewhere. (a) `late`: plants in the last
layer, all other neurons null by construction. (b) `early`: plants in the second layer, neurons above truly respond. Writes
tables/planted_selectors, planted_counts, planted_neurons and planted_null (.parquet, .csv), and planted.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl.core.errors import NevaError


def main() -> int:
    """Measure, print and write; an error is one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=12, help="random models in each of the two cases")
    parser.add_argument("--pairs", type=int, default=100, help="pairs per value")
    parser.add_argument("--shuffles", type=int, default=200, help="shuffles of the poles in the null")
    parser.add_argument("--width", type=int, default=512, help="neurons of each of the 4 layers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/planted"))
    args = parser.parse_args()
    try:
        measure(args)
    except NevaError as error:
        print(f"planted_neurons: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def measure(args: argparse.Namespace) -> None:
    """Measure both cases and the null, write the tables and print them."""
    from neva_tl.activations import collect
    from neva_tl.core.errors import InputError
    from neva_tl.selection.planted import make_world, measure_selectors, null_table, summary
    from neva_tl.selection.planted.world import PLANTED
    from neva_tl.study.run.run_folder import RunFolder

    for name in ("models", "pairs", "shuffles", "width"):
        if getattr(args, name) < (16 if name == "pairs" else 1):
            raise InputError(f"--{name} {getattr(args, name)} is too small: pairs from 16, the others from 1")
    config = {name: getattr(args, name) for name in ("models", "pairs", "shuffles", "width", "seed")}
    identity = {"study": f"planted neurons {json.dumps(config)}", "config": config}
    store = RunFolder.open(args.out, identity)
    store.write_text("manifest.json", json.dumps(identity, indent=1))
    counts, plants = [], []
    for case, early in (("late", False), ("early", True)):
        case_counts, case_plants = measure_selectors(
            args.models, early=early, pairs=args.pairs, seed=args.seed + 1000 * early, d_mlp=args.width,
            progress=bar(case, args.models),
        )  # fmt: skip
        counts.append(case_counts.assign(case=case))
        plants.append(case_plants.assign(case=case))
        # written case by case: an interrupted run leaves the first one
        store.write_table("tables/planted_counts", pd.concat(counts, ignore_index=True))
    all_counts, all_plants = pd.concat(counts, ignore_index=True), pd.concat(plants, ignore_index=True)
    selectors = pd.concat(
        [summary(rows).assign(case=case) for case, rows in all_counts.groupby("case", sort=False)], ignore_index=True
    )
    world = make_world(args.seed, d_mlp=args.width)
    stats = collect(world.model, world.contrast(args.pairs, args.seed), split=None, samples=True)
    null = null_table(
        stats, PLANTED[0], shuffles=args.shuffles, seed=args.seed, progress=bar("null", args.shuffles)
    ).table()
    store.write_table("tables/planted_selectors", selectors)
    store.write_table("tables/planted_neurons", all_plants)
    store.write_table("tables/planted_null", null)
    refused = all_counts[all_counts["refused"] != ""].groupby("method")["refused"].first().to_dict()
    results = {"settings": config, "selectors": records(selectors), "null": records(null), "refused": refused}
    store.write_text("planted.json", json.dumps(results, indent=1))
    show(args, selectors, all_plants, null, refused)


def bar(title: str, total: int) -> Callable[[Any], Any]:
    """Return a progress bar around a loop of `total` runs."""
    from tqdm import tqdm

    return lambda loop: tqdm(loop, desc=title, total=total, unit="run", file=sys.stderr)


def show(
    args: argparse.Namespace,
    selectors: pd.DataFrame,
    plants: pd.DataFrame,
    null: pd.DataFrame,
    refused: dict[Hashable, str],
) -> None:
    """Print the tables of the selectors, of the plants' sizes and of the null."""
    with pd.option_context("display.width", 200, "display.max_columns", 20):
        for case, group in selectors.groupby("case", sort=False):
            intervals = zip(group["est"], group["lo"], group["hi"], strict=True)
            text = group.assign(cell=[f"{e:.3f} [{lo:.3f}, {hi:.3f}]" for e, lo, hi in intervals])
            wide = text.pivot(index="method", columns="measure", values="cell").reindex(group["method"].unique())
            print(f"\n{case}: {args.models} models, {args.pairs} pairs")
            print(wide.T.to_string())
        writers = plants[plants["kind"] == "writer"]
        print("\npopulation d_z of writers by intended size")
        print(writers.groupby(["case", "aimed"])["d_z"].agg(["min", "mean", "max", "size"]).round(3).to_string())
        print(f"\npoles shuffled {args.shuffles} times")
        print(null.round(4).to_string(index=False))
        for method, reason in refused.items():
            print(f"{method} was refused: {reason}")


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as plain data, NaN as None."""
    return json.loads(table.to_json(orient="records"))


if __name__ == "__main__":
    sys.exit(main())
