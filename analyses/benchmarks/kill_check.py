"""Comparison of killed and resumed collections and studies with undisturbed ones.

    python analyses/benchmarks/kill_check.py [--kills 20] [--out runs/kills]

The check kills a command (SIGKILL) at a random moment of its usual duration and starts it again, perhaps several times. A
finished result must be equal byte for byte to the undisturbed result, without additional files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: Files with times and durations, or with the text or the hash of such a file.
TIMED = ("manifest.json", "report.html", "neva-ledger.jsonl")


@dataclass(frozen=True)
class Job:
    """A command that writes into a folder.

    Attributes:
        name: name of the job in the table.
        arguments: arguments of `neva-tl`; FOLDER is replaced by the folder.
    """

    name: str
    arguments: tuple[str, ...]

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        """Start the command in a new process group (a study has workers)."""
        argv = [argument.replace("FOLDER", str(folder)) for argument in self.arguments]
        log = (folder.parent / f"{folder.name}.log").open("ab")
        return subprocess.Popen(
            [sys.executable, "-m", "neva_tl", *argv], stdout=log, stderr=log, start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip


JOBS = (
    Job("collect", ("collect", "--model", "demo", "--out", "FOLDER/stats", "--token-budget", "256", "--save-every", "0")),
    Job(
        "study",
        ("run", "--model", "demo", "--out", "FOLDER", "--value", "power", "--value", "benevolence",
         "--method", "neva", "--method", "caa", "--method", "random", "--workers", "2"),
    ),
)  # fmt: skip


def main() -> int:
    """Run the check; the exit status is 1 if any file differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="kills of each job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job", nargs="+", choices=[job.name for job in JOBS], default=[job.name for job in JOBS])
    parser.add_argument("--out", type=Path, default=Path("runs/kills"))
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    rows = [check(job, args.kills, args.out, np.random.default_rng(args.seed)) for job in JOBS if job.name in args.job]
    (args.out / "kills.json").write_text(json.dumps({"bench": "kills", "rows": rows}, indent=1))
    for row in rows:
        print(
            f"{row['job']}: {row['kills']} kills, {row['resumes']} resumed calls, {row['finished']} finished results, "
            f"{len(row['different'])} different, {len(row['left_over'])} files left over"
        )
    return int(any(row["different"] or row["left_over"] for row in rows))


def check(job: Job, kills: int, out: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Kill one job repeatedly, and compare its finished results.

    Args:
        job: the job.
        kills: number of kills.
        out: folder of the results.
        rng: source of the moments.

    Returns:
        The job's row of kills.json.
    """
    undisturbed = out / f"{job.name}-whole"
    undisturbed.mkdir()
    started = time.monotonic()
    if job.start(undisturbed).wait():
        raise SystemExit(f"{job.name} fails undisturbed: see {undisturbed}.log")
    takes = time.monotonic() - started
    expected = digests(undisturbed)
    killed, resumes, finished = 0, 0, 0
    different: list[str] = []
    left_over: list[str] = []
    while killed < kills or resumes < killed:
        folder = out / f"{job.name}-{finished}"
        folder.mkdir(exist_ok=True)
        process = job.start(folder)
        going_on = any(path.is_file() for path in folder.rglob("*"))
        resumes += going_on or resumes < killed
        try:
            code = process.wait(rng.uniform(0, takes) if killed < kills else None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            continue
        if code:
            raise SystemExit(f"{job.name} fails after a kill (exit status {code}): see {folder}.log")
        results = digests(folder)
        different += [
            f"{folder.name}/{name}"
            for name in sorted(expected.keys() & results.keys())
            if results[name] != expected[name]
        ]
        different += [f"{folder.name}/{name} is missing" for name in sorted(expected.keys() - results.keys())]
        left_over += [f"{folder.name}/{name}" for name in sorted(results.keys() - expected.keys())]
        finished += 1
    return {
        "job": job.name,
        "seconds_undisturbed": takes,
        "kills": killed,
        "resumes": resumes,
        "finished": finished,
        "different": different,
        "left_over": left_over,
    }


def digests(folder: Path) -> dict[str, str]:
    """Return sha256 of every file whose content does not depend on the time."""
    files: Sequence[Path] = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in TIMED)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    sys.exit(main())
