"""Tokens per second and peak memory of collecting, compared with other libraries.

    python analyses/benchmarks/benchmark_collect.py [--data ../shared/data] [--repeats 5] [--out runs/bench/collect.json]

Every method runs in a process of its own, the methods take turns, and the moments of each timed run must equal those of the
first method. Each peer runs twice: as its documentation shows, and tuned (sorted batches by the same budget of tokens, no LM
head where the peer allows it, averaged at once). A peer that is not installed, or does not support a model, is named and left
out. Then `neva_tl` alone runs on growing numbers of texts, for time and memory. `--floor` times the blocks' matrix products alone
in turns with the methods and in their number format, for each method's share of that speed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from common.options import pin, pinnable, write_results
from common.peers import DOCUMENTED, DTYPE, FLOOR, METHODS, TUNED
from common.turns import TOLERANCE, timed
from common.workloads import workload
from tqdm import tqdm

from neva_tl.core.errors import NevaError


def main() -> int:
    """Run the benchmark; missing input is an error of one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with valueeval/; without it texts are random words")
    parser.add_argument(
        "--models",
        nargs="*",
        default=["gpt2", "llama", "smollm2"],
        choices=["gpt2", "llama", "smollm2"],
        help="models of the comparison; may be empty",
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--texts", type=int, default=300, help="texts of each comparison on ragged text")
    parser.add_argument(
        "--equal-texts", type=int, default=100, help="texts of the comparison at equal lengths; 0: none"
    )
    parser.add_argument(
        "--growth", type=int, nargs="*", default=[1000, 10_000], help="numbers of texts for neva_tl alone"
    )
    parser.add_argument("--growth-model", default="small", choices=["small", "gpt2", "llama", "smollm2"])
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each method; 0: memory alone")
    parser.add_argument("--growth-repeats", type=int, default=1)
    parser.add_argument("--growth-weighings", type=int, default=3, help="processes that measure memory")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32", choices=list(TOLERANCE), help="number format of all methods")
    parser.add_argument(
        "--floor", action="store_true", help="also time the blocks' matrix products alone, in turns with the methods"
    )
    pinnable(parser)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench"), help="folder of checkpoints and texts")
    parser.add_argument("--out", type=Path, help="JSON with every repeat")
    args = parser.parse_args()
    pin(args.core)
    os.environ[DTYPE] = args.dtype
    try:
        args.folder.mkdir(parents=True, exist_ok=True)
        rows = measure(args)
    except NevaError as error:
        print(f"benchmark_collect: {error}", file=sys.stderr)
        return error.exit_code
    bench = "collect" if args.dtype == "float32" else f"collect in {args.dtype}"
    results = {"bench": bench, "dtype": args.dtype, "rows": rows, "checks": checks(rows)}
    print(text(results))
    write_results(results, args.out)
    return 0


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row per repeat of every method on every workload."""
    methods = [*args.methods, *([FLOOR] if args.floor else [])]
    plans = [
        (workload(model, "ragged", args.texts, args.data, args.folder), methods, args.repeats, 1)
        for model in args.models
    ]
    level = [m for m in ("neva_tl", "neva_tl, post only", "raw hooks, tuned") if m in args.methods]
    plans += [
        (workload(model, "equal", args.equal_texts, args.data, args.folder), level, args.repeats, 1)
        for model in args.models
        if model != "smollm2" and args.equal_texts
    ]
    plans += [
        (
            workload(args.growth_model, "ragged", n, args.data, args.folder),
            ["neva_tl"],
            args.growth_repeats,
            args.growth_weighings,
        )
        for n in args.growth
    ]
    rows = []
    for work, methods, repeats, weighings in plans:
        bar = tqdm(total=len(methods) * (repeats + weighings), desc=work.name, file=sys.stderr)
        with bar:
            for row in timed(work, methods, repeats, args.threads, weighings):
                rows.append(row | {"texts": work.n, "tokens": work.tokens})
                bar.update(1 if "repeat" in row or "peak_bytes" in row else repeats + weighings)
    return rows


def medians(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return median, minimum and maximum per workload and method."""
    columns = ["tokens_per_second", "seconds", "peak_bytes", "difference"]
    frame = pd.DataFrame(rows, columns=["workload", "method", *columns])
    grouped = frame.groupby(["workload", "method"], sort=False)
    table = grouped["tokens_per_second"].agg(["median", "min", "max"])
    return table.join(grouped[columns[1:]].median()).dropna(subset=["peak_bytes"]).reset_index()


def checks(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the ratios of the project's goals, from medians."""
    table = medians(rows)
    out: dict[str, float] = {}
    for name, group in table.groupby("workload", sort=False):
        speed = group.set_index("method")["median"]
        memory = group.set_index("method")["peak_bytes"]
        for kind, peers in (("documented", DOCUMENTED), ("tuned", TUNED)):
            present = [peer for peer in peers if peer in speed.index]
            if present and "neva_tl" in speed.index:
                out[f"{name}: times the best peer {kind}"] = float(speed["neva_tl"] / speed[present].max())
                if "neva_tl, post only" in speed.index:
                    out[f"{name}: post only, times the best peer {kind}"] = float(
                        speed["neva_tl, post only"] / speed[present].max()
                    )
                out[f"{name}: memory, share of the least peer {kind}"] = float(
                    memory["neva_tl"] / memory[present].min()
                )
        if FLOOR in speed.index:
            out |= {
                f"{name}: {method}, share of the matrix products' speed": float(speed[method] / speed[FLOOR])
                for method in speed.index
                if method != FLOOR
            }
    sizes = {row["workload"]: row["texts"] for row in rows}
    alone = table[table["method"] == "neva_tl"].assign(n=lambda df: df["workload"].map(sizes)).set_index("n")
    if {1000, 10_000} <= set(alone.index):
        few, many = (alone.loc[[n]].to_dict("records")[0] for n in (1000, 10_000))
        out["10,000 texts cost, times 1,000"] = float(many["seconds"]) / float(few["seconds"])
        tokens = {row["texts"]: row["tokens"] for row in rows if row["workload"] in (few["workload"], many["workload"])}
        out["their tokens, times those of 1,000"] = tokens[10_000] / tokens[1000]
        out["memory of 10,000 texts, times 1,000"] = float(many["peak_bytes"]) / float(few["peak_bytes"])
    return out


def text(results: dict[str, Any]) -> str:
    """Return the printed tables."""
    lines = []
    for name, group in medians(results["rows"]).groupby("workload", sort=False):
        base = group["median"].iloc[0]
        lines.append(f"\n{name}")
        lines += [
            f"  {row['method']:24s} {row['median']:8.0f} tokens/s [{row['min']:.0f}, {row['max']:.0f}]"
            f"  x{row['median'] / base:.2f}"
            + (
                ""
                if row["method"] == FLOOR
                else f"  peak {row['peak_bytes'] / 2**20:6.0f} MB  differs {row['difference']:.1e}"
            )
            for row in group.to_dict("records")
        ]
        lines += [
            f"  {row['method']:24s} left out: {row.get('absent') or row.get('failed')}"
            for row in results["rows"]
            if row["workload"] == name and ("absent" in row or "failed" in row)
        ]
    lines += ["", *(f"{check}: {value:.3f}" for check, value in results["checks"].items())]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
