"""Time of per-layer ablation, with and without reuse of layers and prompts.

    OMP_NUM_THREADS=1 python analyses/benchmarks/benchmark_layers.py [--models gpt2 llama] [--repeats 5] [--out FILE.json]

Task: the mean log-probability of every answer (two of each prompt) with a layer's neurons zeroed, fixed at their mean, and
some amplified, for every layer. Methods:

- `plain`: `edit` and a full forward pass of every prompt with its answer, condition by condition;
- `layers`: the same passes, each from the edited layer on (`reuse=LayerCache`);
- `prompts`: full passes, a prompt run once for its answers (`PrefixCache` under the edit);
- `both`.

`gpt2` (124M) and `llama` (narrower, gated, grouped queries) have random weights and need no file; any other name is
loaded. The results of each repeat must equal those of `plain` (1e-5 nats per token), and each repeat starts with empty caches.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common.options import pin, pinnable, write_results
from common.workloads import shaped

from neva_tl.core.errors import NevaError

#: Largest difference from `plain`, in nats per token.
TOLERANCE = 1e-5
METHODS = ("plain", "layers", "prompts", "both")
AMPLIFIED = 20


def main() -> int:
    """Run the benchmark; a model that cannot be loaded is an error of one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", nargs="+", default=["gpt2", "llama"], help="gpt2, llama, or a model of neva_tl.load"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats of each method")
    parser.add_argument("--prompts", type=int, default=4, help="prompts, of 16 to 40 tokens")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    pinnable(parser)
    parser.add_argument("--out", type=Path, help="write every repeat to this JSON file")
    args = parser.parse_args()
    pin(args.core)
    import torch

    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    try:
        for name in args.models:
            results = measure(make_model(name), name, args.repeats, args.prompts)
            print_table(name, results)
            rows += results
    except NevaError as error:
        print(f"benchmark_layers: {error}", file=sys.stderr)
        return error.exit_code
    write_results({"bench": "layers", "rows": rows, "checks": checks(rows)}, args.out)
    return 0


def make_model(name: str) -> Any:
    """Make a random model by the name of its shape, or load a model."""
    import torch

    import neva_tl as nv
    from neva_tl.models.tiny import tiny_tokenizer

    if name not in ("gpt2", "llama"):
        return nv.load(name)
    torch.manual_seed(0)
    hf = shaped(name, **({"vocab_size": 32000} if name == "llama" else {}))
    with tempfile.TemporaryDirectory() as folder:
        hf.save_pretrained(folder)
        tiny_tokenizer(bos=name == "llama").save_pretrained(folder)
        return nv.load(folder)


def measure(model: Any, name: str, repeats: int, prompts: int) -> list[dict[str, Any]]:
    """Time every method, and compare its results with those of `plain`.

    Args:
        model: the model.
        name: its name in the table.
        repeats: timed repeats of each method.
        prompts: number of prompts.

    Returns:
        A row per repeat and method.

    Raises:
        AssertionError: The results of a method differ, or an edit has no effect.
    """
    import neva_tl as nv
    from neva_tl.models import inference
    from neva_tl.models.inference.encoding import Encoded

    info = nv.models.info(model)
    rng = np.random.default_rng(0)
    texts: list[Encoded] = []
    for _ in range(prompts):
        prompt = rng.integers(0, info.d_vocab, rng.integers(16, 41)).tolist()
        answers = (rng.integers(0, info.d_vocab, rng.integers(8, 21)).tolist() for _ in range(2))
        texts += [Encoded((*prompt, *answer), len(prompt)) for answer in answers]

    def run(edits: Sequence[Any], shared: bool, reuse: Any) -> np.ndarray:
        with nv.edit(model, *edits, reuse=reuse) as session:
            prefix = inference.PrefixCache(model, texts, session=session) if shared else None
            total, count = inference.encoded_logprobs(model, texts, session=session, prefix=prefix)
        return total / count

    conditions = [edits for layer in range(info.n_layers) for edits in edits_of(nv, model, layer)]
    jobs: dict[str, Callable[[], np.ndarray]] = {}
    for method in METHODS:
        shared, resumed = method in ("prompts", "both"), method in ("layers", "both")

        def job(shared: bool = shared, resumed: bool = resumed) -> np.ndarray:
            reuse = nv.models.LayerCache(model) if resumed else None
            return np.stack([run(edits, shared, reuse) for edits in conditions])

        jobs[method] = job
    for shared in (False, True):  # warm-up; the test of resumed passes runs once per model
        cache = nv.models.LayerCache(model)
        unedited = run((), shared, None)
        run(conditions[-1], shared, cache)
    rows: list[dict[str, Any]] = []
    for repeat in range(repeats):
        results: dict[str, np.ndarray] = {}
        for method in METHODS[repeat % len(METHODS) :] + METHODS[: repeat % len(METHODS)]:
            started = time.perf_counter(), time.process_time()
            results[method] = jobs[method]()
            wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
            rows.append({"workload": name, "method": method, "repeat": repeat, "seconds": wall, "cpu_seconds": cpu})
        assert np.abs(results["plain"] - unedited).max(axis=1).min() > 100 * TOLERANCE, "an edit changed nothing"
        for row in rows[-len(METHODS) :]:
            row["difference"] = float(np.abs(results[row["method"]] - results["plain"]).max())
            row |= {"layers": info.n_layers, "conditions": len(conditions), "texts": len(texts)}
            assert row["difference"] <= TOLERANCE, f"{row['method']} differs by {row['difference']:.1e} nats per token"
    return rows


def edits_of(nv: Any, model: Any, layer: int) -> list[tuple[Any, ...]]:
    """Return the operations of `layer_ablation` on a layer: zero, mean, amplify some."""
    import pandas as pd

    info = nv.models.info(model)

    def some(count: int) -> Any:
        means = {"mean_plus": 1.0, "mean_minus": 0.0, "sd": 1.0, "score": 1.0}
        df = pd.DataFrame({"layer": layer, "neuron": np.arange(count), **means})
        return nv.NeuronSet("power", "bench", df, info.n_layers, info.d_mlp, fingerprint=nv.fingerprint(model))

    zero, mean = (nv.Ablate(some(info.d_mlp), mode=mode, effects="all") for mode in ("zero", "mean"))
    return [(zero,), (mean,), (nv.Amplify(some(AMPLIFIED), dose=4.0),)]


def ratios(rows: Sequence[dict[str, Any]], method: str, of: str, clock: str = "seconds") -> list[float]:
    """Return the time of one method over that of another, repeat by repeat."""
    by = {(row["method"], row["repeat"]): row[clock] for row in rows}
    return [by[method, repeat] / by[of, repeat] for repeat in sorted({repeat for _, repeat in by})]


def checks(rows: Sequence[dict[str, Any]]) -> dict[str, float | bool]:
    """Return the ratios of the project's goals, by workload."""
    out: dict[str, float | bool] = {}
    for name in dict.fromkeys(row["workload"] for row in rows):
        selected = [row for row in rows if row["workload"] == name]
        out[f"{name}: largest difference (nats per token)"] = max(row["difference"] for row in selected)
        for method in ("layers", "both"):
            ratio = statistics.median(ratios(selected, method, "plain"))
            out[f"{name}: {method} of plain"] = ratio
            out[f"{name}: {method} at most .6 of plain"] = ratio <= 0.6
        out[f"{name}: both of prompts"] = statistics.median(ratios(selected, "both", "prompts"))
    return out


def print_table(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print medians with spread and ratios to `plain`, in wall and CPU time."""
    first = rows[0]
    print(f"{name}: {first['layers']} layers, {first['conditions']} conditions, {first['texts']} texts")
    for method in METHODS:
        selected = [row for row in rows if row["method"] == method]
        wall = [row["seconds"] for row in selected]
        ratio, cpu = (statistics.median(ratios(rows, method, "plain", clock)) for clock in ("seconds", "cpu_seconds"))
        worst = max(row["difference"] for row in selected)
        print(
            f"  {method:8s} {statistics.median(wall):8.2f} s [{min(wall):.2f}, {max(wall):.2f}]"
            f"  x{ratio:.2f} of plain (CPU x{cpu:.2f})  difference {worst:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
