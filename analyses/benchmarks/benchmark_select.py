"""Time and memory of selection at the size of a Llama of 8 billion parameters.

    python analyses/benchmarks/benchmark_select.py [--layers 32] [--width 14336] [--repeats 5] [--out FILE.json]

Writes random moments of ten values with planted effects (no model); every run is a process of its own that reads them, then
selects for all values. The neurons that a timed run selects for the first value must equal those of float64 NumPy and SciPy over
all neurons, without neva_tl. Peak memory is that of the process while it selects; `above` is the increase during selection.
`--layers 2 --width 3000 --repeats 1` takes seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

#: Selectors that need moments alone.
METHODS = ("effect_size", "activation_probability", "lape", "mean_shift")
#: Other measured jobs: reading the file, the profile of layers, and the full effect table of one value.
OTHERS = ("load", "profile", "effect_table")
DESIGNS = ("paired", "unpaired")
ALPHA, DELTA, FOLDS = 0.05, 0.2, 8
MB = 2**20


def main() -> int:
    """Run the benchmark, or (`--child`) one of its processes."""
    from common.options import (
        pin,
        pinnable,
        write_results,
    )  # imported here, because tests load this file without its folder on the path

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=14336, help="neurons of a layer")
    parser.add_argument("--values", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=160, help="pairs (or texts per pole) of the first value")
    parser.add_argument(
        "--spread", type=float, default=0.25, help="standard deviation of the planted effects over neurons"
    )
    parser.add_argument("--methods", nargs="+", default=[*METHODS, *OTHERS], choices=[*METHODS, *OTHERS])
    parser.add_argument("--designs", nargs="+", default=list(DESIGNS), choices=DESIGNS)
    parser.add_argument("--repeats", type=int, default=5)
    pinnable(parser)
    parser.add_argument("--out", type=Path, help="JSON with every repeat")
    parser.add_argument("--child", nargs=3, metavar=("METHOD", "MOMENTS", "RESULT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    pin(args.core)
    if args.child:
        method, moments, result = args.child
        if method.startswith("make:"):
            design = method.removeprefix("make:")
            make(Path(moments), args.layers, args.width, args.values, args.pairs, args.spread, design)
        else:
            run_child(method, moments, result)
        return 0
    if min(args.layers, args.width, args.values, args.repeats) < 1 or args.values > 10 or args.pairs < 2 * FOLDS:
        print(f"benchmark_select: sizes from 1, values to 10, pairs from {2 * FOLDS}", file=sys.stderr)
        return 2
    results = measure(
        args.layers, args.width, args.values, args.pairs, args.spread, args.methods, args.designs, args.repeats
    )
    print_table(results)
    write_results(results, args.out)
    return 0


def measure(
    layers: int,
    width: int,
    values: int,
    pairs: int,
    spread: float,
    methods: Sequence[str] = METHODS,
    designs: Sequence[str] = ("paired",),
    repeats: int = 5,
) -> dict[str, Any]:
    """Time every method in alternating repeats, and compare it with its oracle.

    Args:
        layers: layers of the moments.
        width: neurons of a layer.
        values: number of values.
        pairs: pairs (or texts per pole) of the first value.
        spread: standard deviation of the planted effects.
        methods: selectors and other jobs.
        designs: names out of `DESIGNS`.
        repeats: timed repeats of each method.

    Returns:
        `{"bench", "rows", "checks"}`.
    """
    rows: list[dict[str, Any]] = []
    checks: dict[str, bool | float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for design in designs:
            moments = Path(folder) / design
            command = [sys.executable, __file__, "--layers", layers, "--width", width, "--values", values]
            command += ["--pairs", pairs, "--spread", spread, "--child", f"make:{design}", moments, moments]
            subprocess.run([str(argument) for argument in command], check=True)
            # profile and load do not depend on the design
            selected_methods = [m for m in methods if design == designs[0] or m not in ("load", "profile")]
            expected = {m: _child(f"oracle:{m}", moments, folder)[1] for m in selected_methods if m in METHODS}
            for repeat in range(repeats):
                for method in selected_methods:
                    row, selected = _child(method, moments, folder)
                    if method in METHODS:
                        worst = assert_same(expected[method], selected, f"{method}, {design}")
                        name = f"{method}, {design}: largest relative difference of a score"
                        checks[name] = max(worst, float(checks.get(name, 0.0)))
                        checks[f"{method}, {design}: same neurons"] = True
                    rows.append(
                        {"workload": f"{layers} x {width} neurons x {values} values, {design}", "method": method}
                        | {"repeat": repeat, **row}
                    )
            for path in Path(folder).glob(f"{design}.*"):
                path.unlink()
    return {"bench": "select", "rows": rows, "checks": checks}


def _child(method: str, moments: Path, folder: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The measurements and the selection of one job in a process of its own."""
    result = Path(folder) / "result.npz"
    subprocess.run([sys.executable, __file__, "--child", method, str(moments), str(result)], check=True)
    with np.load(result) as content:
        arrays = dict(content)
    return json.loads(str(arrays.pop("row"))), arrays


def assert_same(expected: dict[str, np.ndarray], actual: dict[str, np.ndarray], title: str) -> float:
    """Compare two selections.

    Args:
        expected: `at` and `score` of the oracle.
        actual: `at` and `score` of the method.
        title: start of the error messages.

    Returns:
        The largest relative difference of a score.

    Raises:
        AssertionError: Another neuron is selected, or a score differs by more than 1e-9.
    """
    one, two = (dict(zip(s["at"].tolist(), s["score"].tolist(), strict=True)) for s in (expected, actual))
    assert one.keys() == two.keys(), f"{title}: {len(one.keys() ^ two.keys())} of {len(one)} neurons differ"
    assert (np.diff(actual["score"]) <= 0).all(), f"{title}: not best first"
    worst = max((abs(two[index] - score) / abs(score) for index, score in one.items()), default=0.0)
    assert worst < 1e-9, f"{title}: scores differ by {worst}"
    return worst


def run_child(method: str, moments: str, result: str) -> None:
    """Run the oracle, or time one job on the moments."""
    if method.startswith("oracle:"):
        index, score = ORACLES[method.removeprefix("oracle:")](_Arrays(Path(moments)))
        np.savez(result, row="{}", at=index, score=score)
        return
    from neva_tl.activations import ActivationStats
    from neva_tl.selection import SelectionWarning, effect_table, select

    warnings.simplefilter("ignore", SelectionWarning)
    if method == "load":
        before = _start()
        seconds, cpu = time.perf_counter(), time.process_time()
        stats = ActivationStats.load(moments)
        seconds, cpu = time.perf_counter() - seconds, time.process_time() - cpu
        selection = np.zeros(0, dtype=int), np.zeros(0)
    else:
        stats = ActivationStats.load(moments)
        # reads every page, so that no job is charged for the file
        for array in stats._arrays().values():
            array.max()
        jobs: dict[str, Callable[[], Any]] = {
            "profile": stats.profile,
            "effect_table": lambda: effect_table(stats, stats.values[0]),
        }
        job = jobs.get(method, lambda: [select(stats, value, method=method) for value in stats.values])
        before = _start()
        seconds, cpu = time.perf_counter(), time.process_time()
        results = job()
        seconds, cpu = time.perf_counter() - seconds, time.process_time() - cpu
        df = results[0].df if method in METHODS else None
        selection = (np.zeros(0, dtype=int), np.zeros(0)) if df is None else (
            (df["layer"] * stats.d_mlp + df["neuron"]).to_numpy(), df["score"].to_numpy()
        )  # fmt: skip
    nbytes = sum(array.nbytes for array in stats._arrays().values())
    peak = _peak()
    row = {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_bytes": peak,
        "above_bytes": peak - before,
        "given_bytes": nbytes,
    }
    row["selected"] = len(selection[0])
    np.savez(result, row=json.dumps(row), at=selection[0], score=selection[1])


def _start() -> int:
    """Reset the peak where the system allows it; the resident bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _peak() -> int:
    """The peak of resident bytes since `_start`."""
    try:
        return _status("VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


def make(
    path: Path, layers: int, width: int, values: int, pairs: int, spread: float, design: str, seed: int = 0
) -> None:
    """Write random moments with an effect per value and neuron, and noise per fold.

    Args:
        path: the file, without suffix.
        layers: layers of the moments.
        width: neurons of a layer.
        values: number of values, which differ in number of texts.
        pairs: pairs (or texts per pole) of the first value.
        spread: standard deviation of the effects.
        design: `paired` or `unpaired`.
        seed: seed of the moments.
    """
    from neva_tl.activations import ActivationStats
    from neva_tl.core.theories import SCHWARTZ

    rng = np.random.default_rng(seed)
    v, shape = values, (layers, width)
    n = np.zeros((v, 2, FOLDS), dtype=np.int64)
    for row in range(v):
        each = np.bincount(rng.integers(0, FOLDS, pairs - 2 * FOLDS + row), minlength=FOLDS) + 2
        # without pairs the poles may differ in number
        n[row] = [each, each if design == "paired" else np.roll(each, 1) + 1]
    sizes: dict[str, tuple[int, ...]] = {"mean": (v, 2, FOLDS), "m2": (v, 2, FOLDS), "positive": (v, 2, FOLDS)}
    sizes |= {"diff_mean": (v, FOLDS), "diff_m2": (v, FOLDS)}
    a: dict[str, Any] = {name: np.empty((*grid, *shape), dtype=np.float32) for name, grid in sizes.items()}
    scale = np.exp(rng.standard_normal(shape, dtype=np.float32) - 2)
    base = rng.standard_normal(shape, dtype=np.float32) * scale
    for row in range(v):
        half = 0.5 * spread * rng.standard_normal(shape, dtype=np.float32)
        for fold in range(FOLDS):
            for pole, sign in enumerate((1, -1)):
                count = int(n[row, pole, fold])
                noise = rng.standard_normal(shape, dtype=np.float32) / np.sqrt(np.float32(count))
                a["mean"][row, pole, fold] = base + scale * (sign * half + noise)
                a["m2"][row, pole, fold] = scale**2 * (count - 1) * (0.5 + rng.random(shape, dtype=np.float32))
                a["positive"][row, pole, fold] = np.clip(0.3 + 0.2 * (base / scale + sign * half + noise), 0, 1)
            if design == "paired":
                a["diff_mean"][row, fold] = a["mean"][row, 0, fold] - a["mean"][row, 1, fold]
                a["diff_m2"][row, fold] = a["m2"][row, :, fold].sum(axis=0)
            else:
                a["diff_mean"][row, fold] = a["diff_m2"][row, fold] = 0
    stats = ActivationStats(
        values=SCHWARTZ.names[:v],
        n=n,
        diff_n=n[:, 0] if design == "paired" else np.zeros((v, FOLDS), dtype=np.int64),
        resid=np.zeros((v, 2, layers, 1), dtype=np.float32),
        **a,
    )
    stats.save(path)


class _Arrays:
    """Moments as plain arrays, read and merged without neva_tl."""

    def __init__(self, path: Path) -> None:
        from safetensors.numpy import load_file

        self.a = load_file(str(path.with_suffix(".safetensors")))
        self.values, _, _, self.layers, self.width = self.a["mean"].shape
        self.paired = bool(self.a["diff_n"].sum())
        self.keep = max(64, int(self.layers * self.width / 30))
        self.keep = min(self.layers * self.width, self.keep)

    def merged(self, n: np.ndarray, mean: np.ndarray, m2: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Return n, mean and sum of squared deviations over all folds, flat over neurons."""
        weight, grand, square = n.astype(float), np.empty(mean.shape[1:]), np.empty(mean.shape[1:])
        for layer in range(self.layers):
            m = mean[:, layer].astype(float)
            grand[layer] = (weight[:, None] * m).sum(axis=0) / weight.sum()
            square[layer] = m2[:, layer].astype(float).sum(axis=0)
            square[layer] += (weight[:, None] * (m - grand[layer]) ** 2).sum(axis=0)
        return float(weight.sum()), grand.ravel(), square.ravel()

    def pole(self, v: int, p: int) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the merged moments of one pole of a value."""
        return self.merged(self.a["n"][v, p], self.a["mean"][v, p], self.a["m2"][v, p])

    def effect(self, v: int) -> tuple[np.ndarray, np.ndarray, Any, Any]:
        """Return g, t, df, and the factor from an effect to its noncentrality."""
        from scipy.special import gammaln

        def correction(df: float) -> float:
            return float(np.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / np.sqrt(df / 2))

        if self.paired:
            n, mean, m2 = self.merged(self.a["diff_n"][v], self.a["diff_mean"][v], self.a["diff_m2"][v])
            d = mean / np.sqrt(m2 / (n - 1))
            return correction(n - 1) * d, d * np.sqrt(n), n - 1, np.sqrt(n)
        (n1, m1, s1), (n2, m2_, s2) = self.pole(v, 0), self.pole(v, 1)
        sd = np.sqrt((s1 + s2) / (n1 + n2 - 2))
        v1, v2 = s1 / (n1 - 1) / n1, s2 / (n2 - 1) / n2
        df = (v1 + v2) ** 2 / (v1**2 / (n1 - 1) + v2**2 / (n2 - 1))
        return correction(n1 + n2 - 2) * (m1 - m2_) / sd, (m1 - m2_) / np.sqrt(v1 + v2), df, sd / np.sqrt(v1 + v2)

    def halves(self, v: int) -> list[np.ndarray]:
        """Return mean differences in two halves of the folds.

        Folds go in order of size, each to the smaller half.
        """
        counts = self.a["diff_n"][v] if self.paired else self.a["n"][v].sum(axis=0)
        folds_of_half: list[list[int]] = [[], []]
        for fold in sorted(range(FOLDS), key=lambda f: (-counts[f], f)):
            sizes = [sum(counts[f] for f in folds) for folds in folds_of_half]
            folds_of_half[int(sizes[1] < sizes[0])].append(fold)
        differences = []
        for folds in folds_of_half:
            if self.paired:
                differences.append(
                    self.merged(self.a["diff_n"][v, folds], self.a["diff_mean"][v, folds], self.a["diff_m2"][v, folds])[
                        1
                    ]
                )
            else:
                one, two = (
                    self.merged(self.a["n"][v, p, folds], self.a["mean"][v, p, folds], self.a["m2"][v, p, folds])[1]
                    for p in (0, 1)
                )
                differences.append(one - two)
        return differences

    def share(self, v: int, p: int) -> np.ndarray:
        """Return the share of texts with a positive activation, flat over neurons."""
        n = self.a["n"][v, p].astype(float)
        total = np.zeros((self.layers, self.width))
        for fold in range(FOLDS):
            total += n[fold] * self.a["positive"][v, p, fold]
        return np.round((total / n.sum()).ravel(), 6)


def _top(index: np.ndarray, score: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-score, kind="stable")[:most]
    return index[order], score[order]


def oracle_effect_size(arrays: _Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Select the first value's neurons with every p by SciPy, every q, every leak."""
    from scipy.stats import nct
    from statsmodels.stats.multitest import multipletests

    g, t, df, root = arrays.effect(0)
    ncp = DELTA * root
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        far = nct.cdf(-np.abs(t), df, ncp)
    p = np.clip(nct.sf(np.abs(t), df, ncp) + np.nan_to_num(far), 0, 1)
    rejected = multipletests(p, ALPHA, method="fdr_bh")[0]
    first, second = arrays.halves(0)
    leak = np.full(g.shape, -np.inf)
    for other in range(1, arrays.values):
        leak = np.maximum(leak, np.sign(g) * arrays.effect(other)[0])
    score = np.abs(g) - np.maximum(0, leak)
    index = np.flatnonzero(rejected & (first * second > 0) & (score > 0))
    return _top(index, score[index], arrays.keep)


def oracle_mean_shift(arrays: _Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Select by the rule of DPN-LE."""
    (n1, m1, s1), (n2, m2, s2) = arrays.pole(0, 0), arrays.pole(0, 1)
    shift, sd = m1 - m2, np.sqrt((s1 + s2) / (n1 + n2 - 2))
    score = np.abs(shift)
    index = np.flatnonzero((score > np.quantile(score, 0.995)) & (score > 0.8 * sd))
    return _top(index, score[index], arrays.keep)


def oracle_activation_probability(arrays: _Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Select by the rule of NPTI."""
    score = arrays.share(0, 0) - arrays.share(0, 1)
    index = np.flatnonzero(score > 0)
    return _top(index, score[index], max(min(2000, arrays.keep), int((score >= 0.1).sum())))


def oracle_lape(arrays: _Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Select by the rule of LAPE."""
    p = np.stack([arrays.share(v, 0) for v in range(arrays.values)])
    often = np.percentile(p, 95.0)
    active = np.flatnonzero((p > often).any(axis=0))
    share = p[:, active] / p[:, active].sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.round(-np.where(share > 0, share * np.log(share), 0.0).sum(axis=0), 9)
    low = np.argsort(spread, kind="stable")[: max(1, round(0.01 * p.shape[1]))]
    low = np.sort(low[p[0, active[low]] > often])
    return _top(active[low], 1 - spread[low] / np.log(arrays.values), arrays.keep)


ORACLES: dict[str, Callable[[_Arrays], tuple[np.ndarray, np.ndarray]]] = {
    "effect_size": oracle_effect_size,
    "activation_probability": oracle_activation_probability,
    "lape": oracle_lape,
    "mean_shift": oracle_mean_shift,
}


def print_table(results: dict[str, Any]) -> None:
    """Print median and spread of the seconds, and memory, per workload and method."""
    rows = results["rows"]
    for workload in dict.fromkeys(row["workload"] for row in rows):
        rows_of_workload = [row for row in rows if row["workload"] == workload]
        threads = os.environ.get("OMP_NUM_THREADS", "all")
        print(f"{workload}: moments of {rows_of_workload[0]['given_bytes'] / MB:,.0f} MiB, {threads} thread(s)")
        for method in dict.fromkeys(row["method"] for row in rows_of_workload):
            repeats = [row for row in rows_of_workload if row["method"] == method]
            seconds, cpu = ([row[name] for row in repeats] for name in ("seconds", "cpu_seconds"))
            peak, above = (max(row[name] for row in repeats) / MB for name in ("peak_bytes", "above_bytes"))
            print(
                f"  {method:24s} {statistics.median(seconds):7.2f} s  [{min(seconds):.2f}, {max(seconds):.2f}]  "
                f"(of the processor {statistics.median(cpu):.2f})  "
                f"peak {peak:6,.0f} MiB, {above:5,.0f} above the memory before"
            )
    for name, value in results["checks"].items():
        print(f"  {name}: {value}")


if __name__ == "__main__":
    sys.exit(main())
