"""Join what the benchmark scripts wrote into one file and one page.

    python analyses/benchmarks/benchmark_report.py runs/bench [--page docs/benchmarks.md] [--note FILE]

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

from neva_tl.core.files import atomic_write

#: Columns of a row that say what was run.
KEYS = ("workload", "model", "method", "processes", "repeat")
#: What each benchmark is, in the order of the page.
ABOUT = {
    "collect": "Mean and M2 of every neuron's activation at `hook_post`, pooled over each text's tokens, for two poles "
    "(`benchmark_collect.py`; one thread). Peers stand as their documentation shows (batches of 16 in the given order, padded, "
    "the whole model, activations kept and then averaged) and tuned (sorted and batched as ours are, averaged at once, no LM "
    "head where the peer lets us): padded too, where `neva_tl` runs the real tokens alone, end to end. The memory is the peak "
    "above what was resident before the call. `neva_tl` collects more than its peers: shares above 0, the "
    "residual stream, on gated models the gate; `post only` is without the gate. "
    "GPT-2's activation function runs as one kernel of torch's in `neva_tl`, as transformers' eight steps in its peers.",
    "floor": "Tokens per second of the blocks' matrix products alone, on one core (`benchmark_floor.py`): no way of collecting "
    "is faster on that core. Beside it their share of the time of transformers' own pass: 1 / share is the most that anyone can "
    "be faster than a tuned hook on it, with the same products in the same precision.",
    "processes": "The same collection by one process and by two of one thread each (`benchmark_processes.py`; gloo).",
    "layers": "Log-probabilities of answers with one layer edited at a time, over all layers (`benchmark_layers.py`): `plain` "
    "runs every text whole, `layers` from the edited layer on, `prompts` a prompt once for its answers, `both` does both.",
    "edit": "Writing and scoring under an edit (`benchmark_edit.py`).",
    "select": "Selection at the size of Llama-8B, 32 x 14,336 neurons and ten values, moments given (`benchmark_select.py`).",
    "gpu": "Collecting on a GPU beside the plain forward pass (`gpu_check.py`).",
}
PACKAGES = ("torch", "transformers", "transformer-lens", "nnsight", "pyvene", "repeng", "numpy")


def main() -> int:
    """Write both; one clear line where there is nothing to join."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder with the scripts' JSON files")
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--note", type=Path, help="a text file that comes before the tables: what was run otherwise")
    args = parser.parse_args()
    note = args.note.read_text() if args.note else ""
    files = [file for file in sorted(args.run.glob("*.json")) if file.name != "bench.json"]
    found = [held for file in files if isinstance(held := json.loads(file.read_text()), dict) and "bench" in held]
    if not found:
        print(f"benchmark_report: {args.run} holds no benchmark's JSON: run make bench first", file=sys.stderr)
        return 2
    joined = {"command": "make bench", "machine": machine(), "benches": found}
    for target, text in ((args.run / "bench.json", json.dumps(joined, indent=1)), (args.page, page(joined, note))):
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as file:
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


def page(joined: dict[str, Any], note: str = "") -> str:
    """The page as Markdown."""
    here = joined["machine"]
    versions = ", ".join(f"{name} {here[name]}" for name in PACKAGES)
    lines = [
        "# Benchmarks",
        "",
        f"`{joined['command']}` on {here['cores']} cores of {here['cpu']}, {here['memory_gb']} GB, no GPU; "
        f"Python {here['python']}, {versions}. Medians with least and most of all repeats; "
        "every repeat is in `runs/bench/bench.json`.",
        *(["", note.strip()] if note.strip() else []),
    ]
    names = [bench["bench"] for bench in joined["benches"]]
    for name in sorted(set(names), key=lambda name: list(ABOUT).index(name) if name in ABOUT else len(ABOUT)):
        own = [bench for bench in joined["benches"] if bench["bench"] == name]
        lines += ["", f"## {name.capitalize()}", "", *([ABOUT[name], ""] if name in ABOUT else [])]
        lines += table(pd.DataFrame([row for bench in own for row in bench["rows"]]))
        checks = {key: value for bench in own for key, value in (bench.get("checks") or {}).items()}
        if checks:
            lines += ["", *(f"- {key}: {_number(value)}" for key, value in checks.items())]
    return "\n".join(lines) + "\n"


def table(rows: pd.DataFrame) -> list[str]:
    """Medians by what was run, every measured column with its spread; what was left out at the end."""
    keys = [name for name in KEYS if name in rows and name != "repeat"]
    missing = [name for name in ("absent", "failed") if name in rows]
    left_out = rows[missing].notna().any(axis=1)
    done = rows[~left_out]
    measured = [name for name in done.select_dtypes("number") if name not in (*KEYS, "texts", "tokens")]
    shown = [name.replace("_bytes", " (MB)").replace("_", " ") for name in measured]
    done = done.assign(**{name: done[name] / 2**20 for name in measured if name.endswith("_bytes")})
    out = ["| " + " | ".join([*keys, *shown]) + " |", "|" + "---|" * (len(keys) + len(measured))]
    for key, group in done.groupby(keys, sort=False):
        cells = [
            f"{_number(group[m].median())} [{_number(group[m].min())}, {_number(group[m].max())}]" for m in measured
        ]
        out.append("| " + " | ".join([*map(str, key), *cells]) + " |")
    out += [
        f"\nLeft out: {row['method']} on {row['workload']} ({row[missing].dropna().iloc[0]})."
        for _, row in rows[left_out].iterrows()
    ]
    return out


def _number(x: Any) -> str:
    return str(x) if isinstance(x, bool | str) or x is None else f"{float(x):.4g}"


if __name__ == "__main__":
    sys.exit(main())
