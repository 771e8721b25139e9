"""Speed-up of a collection by a second process.

    python analyses/benchmarks/benchmark_processes.py [--data ../shared/data] [--repeats 5] [--out runs/bench/processes.json]

Runs the same collection by one process and by two, one thread each, in turn; the moments must be equal. Loading is not timed.
Processes are those of torch.distributed (gloo), as under torchrun.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common.options import write_results
from common.peers import VALUE, rows_of
from common.workloads import Workload, workload

from neva_tl.core.errors import NevaError

#: Largest difference of moments, relative to |mean| + rms deviation and to M2.
TOLERANCE = 1e-6


def main() -> int:
    """Run the benchmark; missing input is an error of one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with valueeval/; without it texts are random words")
    parser.add_argument("--models", nargs="+", default=["gpt2"], choices=["gpt2", "llama", "smollm2"])
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench"), help="folder of checkpoints and texts")
    parser.add_argument("--out", type=Path, help="JSON with every repeat")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    try:
        args.folder.mkdir(parents=True, exist_ok=True)
        for model in args.models:
            rows += measure(workload(model, "ragged", args.texts, args.data, args.folder), args.repeats)
    except NevaError as error:
        print(f"benchmark_processes: {error}", file=sys.stderr)
        return error.exit_code
    checks = {}
    for name in dict.fromkeys(row["workload"] for row in rows):
        seconds = {n: [r["seconds"] for r in rows if r["workload"] == name and r["processes"] == n] for n in (1, 2)}
        ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
        checks[f"{name}: two processes, times one"] = statistics.median(ratios)
        for n, times in seconds.items():
            print(
                f"{name}: {n} process{'es' * (n > 1)} {statistics.median(times):7.2f} s [{min(times):.2f}, {max(times):.2f}]"
            )
        print(f"{name}: x{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] with two")
    write_results({"bench": "processes", "rows": rows, "checks": checks}, args.out)
    return 0


def measure(work: Workload, repeats: int) -> list[dict[str, Any]]:
    """Return a row per repeat and number of processes.

    Args:
        work: model and texts.
        repeats: timed repeats of each number.

    Raises:
        AssertionError: The moments of two processes differ from those of one.
    """
    import torch.multiprocessing as mp

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats):
            for n in (1, 2) if repeat % 2 == 0 else (2, 1):
                mp.spawn(serve, (n, _free_port(), work, folder), nprocs=n)
                seconds = float(Path(folder, f"{n}.txt").read_text())
                rows.append({"workload": work.name, "processes": n, "repeat": repeat, "seconds": seconds})
            one, two = (np.load(Path(folder, f"{n}.npz")) for n in (1, 2))
            spread = np.sqrt(one["m2"] / work.n)
            mean = np.abs(one["mean"] - two["mean"]) / (np.abs(one["mean"]) + spread + 1e-12)
            m2 = np.abs(one["m2"] - two["m2"]) / (one["m2"] + 1e-6 * one["m2"].max())
            worst = max(mean.max(), m2.max())
            assert worst < TOLERANCE, f"moments differ by {worst:.2g}"
    return rows


def serve(rank: int, size: int, port: int, work: Workload, folder: str) -> None:
    """Collect in one of the processes; the first writes the time and the moments."""
    import torch
    import torch.distributed as dist

    import neva_tl as nv

    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=size)
    try:
        model = nv.load(work.folder)
        texts, plus = work.read()
        pairs = nv.prompts.ContrastSet.from_rows(rows_of(texts, plus), "benchmark")
        nv.fingerprint(model)  # computed once per model, outside the timing
        dist.barrier()
        started = time.perf_counter()
        stats = nv.collect(model, pairs, pooling="mean", chat=False)
        dist.barrier()
        seconds = time.perf_counter() - started
        if rank == 0:
            moments = [stats.moments(VALUE, pole) for pole in "+-"]
            Path(folder, f"{size}.txt").write_text(str(seconds))
            np.savez(Path(folder, f"{size}.npz"), mean=[m for _, m, _ in moments], m2=[m2 for _, _, m2 in moments])
    finally:
        dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
