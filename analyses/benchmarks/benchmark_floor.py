"""Upper limit of collecting: the matrix products of a forward pass alone.

    OMP_NUM_THREADS=1 python analyses/benchmarks/benchmark_floor.py [--models gpt2 llama smollm2] [--repeats 5] [--out FILE.json]

Every weight matrix of the model's blocks is multiplied with as many rows as a batch of `collect` has. The rest of a pass
(attention's own products, activation functions, norms, padding, pooling) is left out, so that no method can be faster in real
tokens. The second number is the share of these products in transformers' pass over a full batch, without head: 1 / share is the
largest possible speed-up over a tuned hook on it, with the same products in the same precision.
`benchmark_collect.py --floor` measures the same products in turns with the methods, at its own number format.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.floor import Products
from common.options import pin, pinnable, write_results
from common.workloads import shaped

from neva_tl.core.errors import NevaError

MODELS = ("gpt2", "llama", "smollm2")


def main() -> int:
    """Run the benchmark; a missing model is an error of one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="number format")
    pinnable(parser)
    parser.add_argument("--out", type=Path, help="JSON with every repeat")
    args = parser.parse_args()
    import torch

    pin(args.core)
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    try:
        for name in args.models:
            rows += measure(name, args.repeats, getattr(torch, args.dtype))
    except NevaError as error:
        print(f"benchmark_floor: {error}", file=sys.stderr)
        return error.exit_code
    checks = {
        f"{name}: most that saving all but these products of transformers' pass would bring, times": 1
        / statistics.median(row["share_of_a_pass"] for row in rows if row["workload"] == name)
        for name in args.models
    }
    for name in args.models:
        selected = [row for row in rows if row["workload"] == name]
        speed = [row["tokens_per_second"] for row in selected]
        rate = statistics.median(row["gflops"] for row in selected)
        limit = checks[f"{name}: most that saving all but these products of transformers' pass would bring, times"]
        print(
            f"{name}: {statistics.median(speed):.0f} tokens/s [{min(speed):.0f}, {max(speed):.0f}], {rate:.0f} GFLOP/s; "
            f"without the rest of transformers' pass: x{limit:.2f} as fast"
        )
    write_results({"bench": "floor", "dtype": args.dtype, "rows": rows, "checks": checks}, args.out)
    return 0


def measure(name: str, repeats: int, dtype: Any) -> list[dict[str, Any]]:
    """Return a row per repeat: tokens per second of the products, and their share.

    Args:
        name: the model.
        repeats: timed repeats.
        dtype: number format.
    """
    hf = make_model(name, dtype)
    products = Products(hf, dtype)
    tokens = products.rows
    run = transformers_pass(hf, tokens)
    results = []
    for repeat in range(-1, repeats):  # the first is not counted
        speed = tokens / products.seconds()
        flops = products.flops_per_token
        row = {"workload": name, "repeat": repeat, "tokens_per_second": speed, "gflops": speed * flops / 1e9}
        results += [row | {"share_of_a_pass": share(run)}] if repeat >= 0 else []
    return results


def transformers_pass(hf: Any, tokens: int) -> Callable[[], Any]:
    """Return a pass of transformers' model without head, over rows of 32 tokens."""
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
    """Return the share of the blocks' matrix products in a pass, by torch's profiler.

    Attention's own products are not counted.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    events = profiler.key_averages()
    products = sum(event.self_cpu_time_total for event in events if event.key in ("aten::mm", "aten::addmm"))
    return products / sum(event.self_cpu_time_total for event in events)


def make_model(name: str, dtype: Any) -> Any:
    """Load SmolLM2, or make a random model of a shape, in transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    from neva_tl.models.sources import resolve

    torch.manual_seed(0)
    if name == "smollm2":
        return AutoModelForCausalLM.from_pretrained(resolve(name).path, dtype=dtype).eval()
    return shaped(name, vocab_size=32_000, bos_token_id=None, eos_token_id=0).to(dtype).eval()


if __name__ == "__main__":
    sys.exit(main())
