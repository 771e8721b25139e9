"""How fast collecting could be at most: the matrix products of a forward pass alone, at the rate this core does them.

    OMP_NUM_THREADS=1 python analyses/benchmarks/benchmark_floor.py [--models gpt2 llama smollm2] [--repeats 5] [--out FILE.json]

Every weight matrix of the model's blocks is multiplied with as many rows as `collect` puts in a batch; what else a pass does
(attention's own products, activation functions, norms, padding, pooling) is left out. No method can pass this many real tokens.
Beside it the share that these products have of transformers' own pass over a full batch, without head: 1 / share is the most
that anyone can be faster than a well-tuned hook on it who computes the same products in the same precision.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.options import pin, pinnable, written
from common.workloads import shaped

from neva_tl.core.errors import NevaError

MODELS = ("gpt2", "llama", "smollm2")


def main() -> int:
    """Run the benchmark; one clear line where a model is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    pinnable(parser)
    parser.add_argument("--out", type=Path, help="JSON with every repeat")
    args = parser.parse_args()
    import torch

    pin(args.core)
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    try:
        for name in args.models:
            rows += measure(name, args.repeats)
    except NevaError as error:
        print(f"benchmark_floor: {error}", file=sys.stderr)
        return error.exit_code
    checks = {
        f"{name}: most that saving all but these products of transformers' pass would bring, times": 1
        / statistics.median(row["share_of_a_pass"] for row in rows if row["workload"] == name)
        for name in args.models
    }
    for name in args.models:
        own = [row for row in rows if row["workload"] == name]
        speed = [row["tokens_per_second"] for row in own]
        rate = statistics.median(row["gflops"] for row in own)
        limit = checks[f"{name}: most that saving all but these products of transformers' pass would bring, times"]
        print(
            f"{name}: {statistics.median(speed):.0f} tokens/s [{min(speed):.0f}, {max(speed):.0f}], {rate:.0f} GFLOP/s; "
            f"whoever saved all else of transformers' pass would be x{limit:.2f} as fast"
        )
    written({"bench": "floor", "rows": rows, "checks": checks}, args.out)
    return 0


def measure(name: str, repeats: int) -> list[dict[str, Any]]:
    """Tokens per second of the matrix products of one model, and their share of transformers' pass, repeat by repeat."""
    import torch

    from neva_tl.activations.plan import token_budget_for

    hf = make_model(name)
    shapes, width = matrices(hf)
    tokens = token_budget_for("cpu", width)
    # every layer has weights of its own, as in a model: one matrix over and over would lie in the cache
    weights = {shape: [torch.randn(shape[::-1]).T for _ in range(count)] for shape, count in shapes.items()}
    # room for each product is made beforehand
    held = {shape: (torch.randn(tokens, shape[0]), torch.empty(tokens, shape[1])) for shape in shapes}
    flops = 2 * sum(count * rows * columns for (rows, columns), count in shapes.items())
    run = transformers_pass(hf, tokens)
    found = []
    for repeat in range(-1, repeats):  # the first is not counted
        seconds = 0.0
        for shape, own in weights.items():
            x, out = held[shape]
            started = time.perf_counter()
            for weight in own:
                torch.mm(x, weight, out=out)
            seconds += time.perf_counter() - started
        speed = tokens / seconds
        row = {"workload": name, "repeat": repeat, "tokens_per_second": speed, "gflops": speed * flops / 1e9}
        found += [row | {"share_of_a_pass": share(run)}] if repeat >= 0 else []
    return found


def transformers_pass(hf: Any, tokens: int) -> Callable[[], Any]:
    """One pass of transformers' own model without its head, on full batches of rows of 32 tokens."""
    import torch

    body = hf.base_model
    ids = torch.randint(5, 30_000, (tokens // 32, 32))
    mask = torch.ones_like(ids)

    def run() -> Any:
        with torch.inference_mode():
            return body(input_ids=ids, attention_mask=mask, use_cache=False)

    run()
    return run


def share(run: Callable[[], Any]) -> float:
    """Share of the blocks' matrix products in the time of one pass, by torch's profiler (attention's own are not counted)."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    events = profiler.key_averages()
    products = sum(event.self_cpu_time_total for event in events if event.key in ("aten::mm", "aten::addmm"))
    return products / sum(event.self_cpu_time_total for event in events)


def make_model(name: str) -> Any:
    """SmolLM2, or a random model of a shape, as transformers has it."""
    import torch
    from transformers import AutoModelForCausalLM

    from neva_tl.models.sources import resolve

    torch.manual_seed(0)
    if name == "smollm2":
        return AutoModelForCausalLM.from_pretrained(resolve(name).path, dtype=torch.float32).eval()
    return shaped(name, vocab_size=32_000, bos_token_id=None, eos_token_id=0).eval()


def matrices(hf: Any) -> tuple[Counter[tuple[int, int]], int]:
    """How many weight matrices of each shape (read, written) the blocks have, and neurons of a layer."""
    blocks = hf.transformer.h if hasattr(hf, "transformer") else hf.model.layers
    shapes: Counter[tuple[int, int]] = Counter()
    for key, weight in blocks.named_parameters():
        if weight.ndim == 2 and key.endswith("weight"):
            # transformers' Conv1D keeps (read, written), Linear the other way round
            shapes[tuple(weight.shape) if hasattr(hf, "transformer") else tuple(weight.shape)[::-1]] += 1  # type: ignore[index]
    return shapes, getattr(hf.config, "intermediate_size", None) or 4 * hf.config.n_embd


if __name__ == "__main__":
    sys.exit(main())
