"""Join the results of the benchmark scripts into one file and one page.

    python analyses/benchmarks/benchmark_report.py runs/bench [--page docs/benchmarks.md] [--note FILE]

Reads RUN/NAME.json (`make bench` writes them), writes RUN/bench.json with every repeat and the machine, and the page: per
benchmark a table of medians with spread, and the checks of its script.
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

#: Columns that identify a run.
KEYS = ("workload", "model", "method", "processes", "repeat")
#: Benchmark -> its description, in the order of the page.
ABOUT = {
    "collect": "Mean and M2 of every neuron's activation at `hook_post`, pooled over each text's tokens, for two poles "
    "(`benchmark_collect.py`; one thread). Peers run as their documentation shows (batches of 16 in the given order, padded, "
    "the full model, activations stored and then averaged) and tuned (sorted and batched as in `neva_tl`, averaged at once, no "
    "LM head where the peer allows it): padded too, where `neva_tl` runs the real tokens alone, end to end. The memory is the "
    "peak above the resident memory before the call. `neva_tl` collects more than its peers: shares above 0, the "
    "residual stream, on gated models the gate; `post only` is without the gate. "
    "GPT-2's activation function is one kernel of torch in `neva_tl`, eight steps of transformers in its peers.",
    "collect in bfloat16": "The same in bfloat16, peers as well, and in turns with them the blocks' matrix products alone in "
    "bfloat16 (`benchmark_collect.py --dtype bfloat16 --floor`): each method's share of their speed.",
    "floor": "Tokens per second of the blocks' matrix products alone, on one core (`benchmark_floor.py`): no method of "
    "collecting is faster on that core. The second number is their share of the time of transformers' pass: 1 / share is the "
    "largest possible speed-up over a tuned hook on it, with the same products in the same precision.",
    "processes": "The same collection by one process and by two of one thread each (`benchmark_processes.py`; gloo).",
    "layers": "Log-probabilities of answers with one layer edited at a time, over all layers (`benchmark_layers.py`): `plain` "
    "runs every text in full, `layers` from the edited layer on, `prompts` a prompt once for its answers, `both` does both.",
    "edit": "Generation and scoring under an edit (`benchmark_edit.py`).",
    "select": "Selection at the size of Llama-8B, 32 x 14,336 neurons and ten values, stored moments (`benchmark_select.py`).",
    "gpu": "Collecting on a GPU compared with the plain forward pass (`gpu_check.py`).",
}
PACKAGES = ("torch", "transformers", "transformer-lens", "nnsight", "pyvene", "repeng", "numpy")


def main() -> int:
    """Write both; an error is one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder with the scripts' JSON files")
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--note", type=Path, help="a text file with remarks, put before the tables")
    args = parser.parse_args()
    note = args.note.read_text() if args.note else ""
    files = [file for file in sorted(args.run.glob("*.json")) if file.name != "bench.json"]
    contents = [json.loads(file.read_text()) for file in files]
    benches = [content for content in contents if isinstance(content, dict) and "bench" in content]
    if not benches:
        print(f"benchmark_report: {args.run} holds no results of benchmarks: run make bench first", file=sys.stderr)
        return 2
    joined = {"command": "make bench", "machine": machine(), "benches": benches}
    for target, text in ((args.run / "bench.json", json.dumps(joined, indent=1)), (args.page, page(joined, note))):
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as file:
            file.write_text(text)
    return 0


def machine() -> dict[str, Any]:
    """Return processor, cores, memory and versions, without the machine's name."""
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
    """Return the page as Markdown."""
    host = joined["machine"]
    versions = ", ".join(f"{name} {host[name]}" for name in PACKAGES)
    lines = [
        "# Benchmarks",
        "",
        f"`{joined['command']}` on {host['cores']} cores of {host['cpu']}, {host['memory_gb']} GB, no GPU; "
        f"Python {host['python']}, {versions}. Medians with least and most of all repeats; "
        "every repeat is in `runs/bench/bench.json`.",
        *(["", note.strip()] if note.strip() else []),
    ]
    names = [bench["bench"] for bench in joined["benches"]]
    for name in sorted(set(names), key=lambda name: list(ABOUT).index(name) if name in ABOUT else len(ABOUT)):
        selected = [bench for bench in joined["benches"] if bench["bench"] == name]
        lines += ["", f"## {name.capitalize()}", "", *([ABOUT[name], ""] if name in ABOUT else [])]
        lines += table(pd.DataFrame([row for bench in selected for row in bench["rows"]]))
        checks = {key: value for bench in selected for key, value in (bench.get("checks") or {}).items()}
        if checks:
            lines += ["", *(f"- {key}: {_number(value)}" for key, value in checks.items())]
    return "\n".join(lines) + "\n"


def table(rows: pd.DataFrame) -> list[str]:
    """Return a table of medians with spread, and a line per method that was left out."""
    keys = [name for name in KEYS if name in rows and name != "repeat"]
    missing = [name for name in ("absent", "failed") if name in rows]
    left_out = rows[missing].notna().any(axis=1)
    finished = rows[~left_out]
    measured = [str(name) for name in finished.select_dtypes("number") if name not in (*KEYS, "texts", "tokens")]
    titles = [name.replace("_bytes", " (MB)").replace("_", " ") for name in measured]
    finished = finished.assign(**{name: finished[name] / 2**20 for name in measured if name.endswith("_bytes")})
    out = ["| " + " | ".join([*keys, *titles]) + " |", "|" + "---|" * (len(keys) + len(measured))]
    for key, group in finished.groupby(keys, sort=False):
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
