"""How fast collecting could be at most: the matrix products of a forward pass alone, at the rate this core does them.

    OMP_NUM_THREADS=1 python analyses/benchmark_floor.py [--models gpt2 llama smollm2] [--repeats 5] [--out runs/bench/floor.json]

Every weight matrix of the model's blocks is multiplied with as many rows as `collect` puts in a batch; what else a pass does
(attention's own products, activation functions, norms, padding, pooling) is left out. No method can pass this many real tokens.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benching.options import pin, pinnable, written
from benching.workloads import shaped

from neva_tl.errors import NevaError

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
    for name in args.models:
        own = [row for row in rows if row["workload"] == name]
        speed = [row["tokens_per_second"] for row in own]
        rate = statistics.median(row["gflops"] for row in own)
        print(
            f"{name}: {statistics.median(speed):.0f} tokens/s [{min(speed):.0f}, {max(speed):.0f}], {rate:.0f} GFLOP/s"
        )
    written({"bench": "floor", "rows": rows, "checks": {}}, args.out)
    return 0


def measure(name: str, repeats: int) -> list[dict[str, Any]]:
    """Tokens per second of the matrix products of one model, repeat by repeat."""
    import torch

    from neva_tl.collecting.plan import token_budget_for

    shapes, width = matrices(name)
    tokens = token_budget_for("cpu", width)
    # Linear's orientation, and room for the product made beforehand
    held = {
        shape: (torch.randn(tokens, shape[0]), torch.randn(shape[::-1]).T, torch.empty(tokens, shape[1]))
        for shape in shapes
    }
    flops = 2 * sum(count * rows * columns for (rows, columns), count in shapes.items())
    found = []
    for repeat in range(-1, repeats):  # the first is not counted
        seconds = 0.0
        for shape, count in shapes.items():
            x, weight, out = held[shape]
            started = time.perf_counter()
            for _ in range(3):
                torch.mm(x, weight, out=out)
            seconds += count * (time.perf_counter() - started) / 3
        speed = tokens / seconds
        row = {"workload": name, "repeat": repeat, "tokens_per_second": speed, "gflops": speed * flops / 1e9}
        found += [row] if repeat >= 0 else []
    return found


def matrices(name: str) -> tuple[Counter[tuple[int, int]], int]:
    """How many weight matrices of each shape (read, written) the blocks have, and neurons of a layer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from neva_tl._sources import resolve

    with torch.device("meta"):
        hf = (
            AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(resolve(name).path))
            if name == "smollm2"
            else shaped(name, vocab_size=32_000, bos_token_id=None, eos_token_id=0)
        )
    blocks = hf.transformer.h if hasattr(hf, "transformer") else hf.model.layers
    shapes: Counter[tuple[int, int]] = Counter()
    for key, weight in blocks.named_parameters():
        if weight.ndim == 2 and key.endswith("weight"):
            # transformers' Conv1D keeps (read, written), Linear the other way round
            shapes[tuple(weight.shape) if hasattr(hf, "transformer") else tuple(weight.shape)[::-1]] += 1  # type: ignore[index]
    return shapes, getattr(hf.config, "intermediate_size", None) or 4 * hf.config.n_embd


if __name__ == "__main__":
    sys.exit(main())
