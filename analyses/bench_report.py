"""Join what the benchmark scripts wrote into one file and one page.

    python analyses/bench_report.py runs/bench [--page docs/benchmarks.md]

Reads RUN/NAME.json (`make bench` writes them), writes RUN/bench.json with every repeat and the machine, and the page: per
benchmark a table of medians with spread, and the checks that its script computed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl._whole import whole_file

#: Columns of a row that say what was run.
KEYS = ("workload", "model", "method", "processes", "repeat")
PACKAGES = ("torch", "transformers", "transformer-lens", "nnsight", "pyvene", "repeng", "numpy")


def main() -> int:
    """Write both; one clear line where there is nothing to join."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder with the scripts' JSON files")
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks.md"))
    args = parser.parse_args()
    files = [file for file in sorted(args.run.glob("*.json")) if file.name != "bench.json"]
    found = [held for file in files if isinstance(held := json.loads(file.read_text()), dict) and "bench" in held]
    if not found:
        print(f"bench_report: {args.run} holds no benchmark's JSON: run make bench first", file=sys.stderr)
        return 2
    joined = {"command": "make bench", "machine": machine(), "benches": found}
    for target, text in ((args.run / "bench.json", json.dumps(joined, indent=1)), (args.page, page(joined))):
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as file:
            file.write_text(text)
    return 0


def machine() -> dict[str, Any]:
    """Processor, cores, memory and versions; no name of the machine."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(memory),
        "python": platform.python_version(),
    } | versions


def page(joined: dict[str, Any]) -> str:
    """The page as Markdown."""
    here = joined["machine"]
    versions = ", ".join(f"{name} {here[name]}" for name in PACKAGES)
    lines = [
        "# Benchmarks",
        "",
        f"`{joined['command']}` on {here['cores']} cores of {here['cpu']}, {here['memory_gb']} GB, no GPU; "
        f"Python {here['python']}, {versions}. Medians with least and most of all repeats; "
        "every repeat is in `runs/bench/bench.json`.",
    ]
    for bench in joined["benches"]:
        lines += ["", f"## {bench['bench'].capitalize()}", ""]
        lines += table(pd.DataFrame(bench["rows"]))
        checks = bench.get("checks") or {}
        if checks:
            lines += ["", *(f"- {name}: {_number(value)}" for name, value in checks.items())]
    return "\n".join(lines) + "\n"


def table(rows: pd.DataFrame) -> list[str]:
    """Medians by what was run, every measured column with its spread; what was left out at the end."""
    keys = [name for name in KEYS if name in rows and name != "repeat"]
    done = rows[rows["repeat"].notna()] if "repeat" in rows else rows
    measured = [name for name in done.select_dtypes("number") if name not in (*KEYS, "texts", "tokens")]
    out = ["| " + " | ".join([*keys, *measured]) + " |", "|" + "---|" * (len(keys) + len(measured))]
    for key, group in done.groupby(keys, sort=False):
        cells = [
            f"{_number(group[m].median())} [{_number(group[m].min())}, {_number(group[m].max())}]" for m in measured
        ]
        out.append("| " + " | ".join([*map(str, key), *cells]) + " |")
    if "repeat" in rows:
        out += [
            f"\nLeft out: {row['method']} on {row['workload']} ({row.get('absent') or row.get('failed')})."
            for row in rows[rows["repeat"].isna()].to_dict("records")
        ]
    return out


def _number(x: Any) -> str:
    return str(x) if isinstance(x, bool | str) or x is None else f"{float(x):.4g}"


if __name__ == "__main__":
    sys.exit(main())
