"""Kill a collection and a study at random moments, start them again, and compare every result with one that ran through.

    python analyses/benchmarks/kill_check.py [--kills 20] [--out runs/kills]

A call is killed (SIGKILL) at a moment drawn between its start and the time that a whole call takes; the same command is called
again, and may be killed again. What is finished must be equal byte for byte to the undisturbed result, with nothing left over.
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

import numpy as np

#: Files that say when and how long, or that hold such a file's text.
TIMED = ("manifest.json", "report.html")


@dataclass(frozen=True)
class Job:
    """A command that writes into a folder.

    Attributes:
        name: as the table says it.
        arguments: of `neva-tl`; FOLDER stands for the folder.
    """

    name: str
    arguments: tuple[str, ...]

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own (a study has workers)."""
        argv = [part.replace("FOLDER", str(folder)) for part in self.arguments]
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
    """Run the check; exit status 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of each job")
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
            f"{row['job']}: {row['kills']} kills, {row['resumes']} calls that went on, {row['finished']} finished results, "
            f"{len(row['different'])} different, {len(row['left_over'])} files left over"
        )
    return int(any(row["different"] or row["left_over"] for row in rows))


def check(job: Job, kills: int, out: Path, rng: np.random.Generator) -> dict[str, object]:
    """Kill one job so often, and compare what it finishes."""
    whole = out / f"{job.name}-whole"
    whole.mkdir()
    started = time.monotonic()
    if job.start(whole).wait():
        raise SystemExit(f"{job.name} fails undisturbed: see {whole}.log")
    takes = time.monotonic() - started
    wanted = digests(whole)
    done, resumes, finished = 0, 0, 0
    different: list[str] = []
    left: list[str] = []
    while done < kills or resumes < done:
        folder = out / f"{job.name}-{finished}"
        folder.mkdir(exist_ok=True)
        process = job.start(folder)
        going_on = any(path.is_file() for path in folder.rglob("*"))
        resumes += going_on or resumes < done
        try:
            code = process.wait(rng.uniform(0, takes) if done < kills else None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done += 1
            continue
        if code:
            raise SystemExit(f"{job.name} fails after a kill (exit status {code}): see {folder}.log")
        found = digests(folder)
        different += [
            f"{folder.name}/{name}" for name in sorted(wanted.keys() & found.keys()) if found[name] != wanted[name]
        ]
        different += [f"{folder.name}/{name} is missing" for name in sorted(wanted.keys() - found.keys())]
        left += [f"{folder.name}/{name}" for name in sorted(found.keys() - wanted.keys())]
        finished += 1
    return {
        "job": job.name,
        "seconds_undisturbed": takes,
        "kills": done,
        "resumes": resumes,
        "finished": finished,
        "different": different,
        "left_over": left,
    }


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file whose content does not depend on the clock."""
    files: Sequence[Path] = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in TIMED)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    sys.exit(main())
