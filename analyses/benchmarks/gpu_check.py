"""Cost of collecting on a GPU, compared with the plain forward pass.

    python analyses/benchmarks/gpu_check.py [--texts 2000] [--repeats 5] [--out runs/bench/gpu.json]

The model has random weights of Llama-8B's shape in bfloat16. Prints tokens per second of transformers' forward pass (its body,
no LM head, no hooks, its default attention) over the same batches and of `neva_tl.collect`, the share of the measured matmul
ceiling that each reaches, and memory above the weights. Means of a few texts must agree with raw hooks in float64 before
anything is timed. Downloads nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common.options import write_results
from common.peers import VALUE, by_length, rows_of
from common.workloads import byte_pairs, premises

from neva_tl.core.errors import InputError, NevaError

#: Largest difference of means from raw hooks, relative to |mean| + rms deviation: a few steps of bfloat16.
TOLERANCE = 0.05


def main() -> int:
    """Run the check; a missing GPU is an error of one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N; cpu runs the same steps (with small sizes)")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--d-model", type=int, default=4096)
    parser.add_argument("--d-mlp", type=int, default=14_336)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--out", type=Path, help="JSON with every repeat")
    args = parser.parse_args()
    try:
        check_device(args.device)
        results = measure(args)
    except NevaError as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return error.exit_code
    print(text(results))
    write_results(results, args.out)
    return 0


def check_device(name: str) -> None:
    """Check that a device is available.

    Raises:
        InputError: The device is not available.
    """
    import torch

    if torch.device(name).type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "no CUDA device is at hand, so there is nothing to check: run it on a machine with a GPU "
            "(analyses/benchmarks/benchmark_collect.py measures processors)"
        )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time the plain forward pass and collecting in alternating repeats.

    Raises:
        AssertionError: Means of a few texts differ from those of raw hooks.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import neva_tl as nv

    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    table = premises(None).head(args.texts)
    texts, plus = table["text"].tolist(), table["plus"].to_numpy()
    with tempfile.TemporaryDirectory() as folder:
        write_random_llama(args, texts, device, dtype, Path(folder))
        hf = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = nv.load(folder, device=device, dtype=dtype)
        batches = plain_batches(hf, tokenizer, texts)
        tokens = sum(int(mask.sum()) for _, mask in batches)
        few = plain_means(hf, tokenizer, texts[:8])

        def collected(selected: slice) -> Any:
            pairs = nv.prompts.ContrastSet.from_rows(rows_of(texts[selected], plus[selected]), "gpu check")
            return nv.collect(model, pairs, pooling="mean", chat=False)

        difference = differs(collected(slice(0, 8)), few, plus[:8])
        assert difference < TOLERANCE, f"means of a few texts differ from raw hooks' by {difference:.2g}"
        ceiling = matmul_ceiling(args, device, dtype)
        jobs: dict[str, Callable[[], Any]] = {
            "plain forward": lambda: plain_pass(hf, batches),
            "neva_tl.collect": lambda: collected(slice(None)),
        }
        rows: list[dict[str, Any]] = []
        for repeat in range(-1, args.repeats):  # the first is not counted
            for method in sorted(jobs, reverse=repeat % 2 == 0):
                row: dict[str, Any] = timed(jobs[method], device)
                row |= {"workload": "llama 8B shape", "method": method, "repeat": repeat}
                row["tokens_per_second"] = tokens / row["seconds"]
                rows += [row] if repeat >= 0 else []
    body = sum(p.numel() for name, p in hf.model.named_parameters() if "embed" not in name)
    speeds = {m: statistics.median(r["tokens_per_second"] for r in rows if r["method"] == m) for m in jobs}
    checks = {
        "collect, share of the plain forward's tokens per second": speeds["neva_tl.collect"] / speeds["plain forward"],
        "plain forward, share of the matmul ceiling": 2 * body * speeds["plain forward"] / ceiling,
        "collect, share of the matmul ceiling": 2 * body * speeds["neva_tl.collect"] / ceiling,
        "matmul ceiling, TFLOP/s": ceiling / 1e12,
        "tokens": float(tokens),
        "largest difference of a mean from raw hooks": difference,
    }
    return {"bench": "gpu", "device": name_of(device), "rows": rows, "checks": checks}


def write_random_llama(args: argparse.Namespace, texts: list[str], device: Any, dtype: Any, folder: Path) -> None:
    """Write a random checkpoint, and a tokenizer learnt from the texts."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=args.d_model,
        intermediate_size=args.d_mlp,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        num_key_value_heads=max(1, args.heads // 4),
        vocab_size=128_256,
        max_position_embeddings=8192,
        bos_token_id=None,
        eos_token_id=0,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            LlamaForCausalLM(config).save_pretrained(folder)
    finally:
        torch.set_default_dtype(before)
    byte_pairs(texts).save_pretrained(folder)


def plain_batches(hf: Any, tokenizer: Any, texts: list[str]) -> list[tuple[Any, Any]]:
    """Return token ids and masks on the device, packed as in `collect`."""
    batches = by_length(tokenizer, texts, hf.config.intermediate_size, hf.device.type)
    return [(batch["input_ids"].to(hf.device), batch["attention_mask"].to(hf.device)) for _, batch in batches]


def plain_pass(hf: Any, batches: list[tuple[Any, Any]]) -> None:
    """Run the body's forward pass over all batches."""
    import torch

    with torch.inference_mode():
        for ids, mask in batches:
            hf.model(input_ids=ids, attention_mask=mask, use_cache=False)


def plain_means(hf: Any, tokenizer: Any, texts: list[str]) -> np.ndarray:
    """Return mean inputs of the down-projections by raw hooks, `[n, l, k]`."""
    import torch

    stored: list[Any] = []
    handles = [
        block.mlp.down_proj.register_forward_pre_hook(lambda _, args: stored.append(args[0][0].double().mean(dim=0)))
        for block in hf.model.layers
    ]
    means = []
    try:
        with torch.inference_mode():
            for text in texts:
                stored.clear()
                hf.model(
                    **tokenizer(text, return_tensors="pt", add_special_tokens=False).to(hf.device), use_cache=False
                )
                means.append(torch.stack(stored).cpu().numpy())
    finally:
        for handle in handles:
            handle.remove()
    return np.stack(means)


def differs(stats: Any, means: np.ndarray, plus: np.ndarray) -> float:
    """Return the largest difference of means, in units of |mean| + rms deviation."""
    worst = 0.0
    for pole, selected in (("+", plus), ("-", ~plus)):
        _, mean, _ = stats.moments(VALUE, pole)
        expected = means[selected].mean(axis=0)
        unit = np.abs(expected) + means[selected].std(axis=0) + np.abs(expected).mean()
        worst = max(worst, float((np.abs(mean - expected) / unit).max()))
    return worst


def matmul_ceiling(args: argparse.Namespace, device: Any, dtype: Any) -> float:
    """Return FLOP/s of the up-projection's matmul alone, the best of five."""
    import torch

    rows = 4096 if device.type == "cuda" else 256
    x, w = (
        torch.randn(shape, device=device, dtype=dtype) for shape in ((rows, args.d_model), (args.d_model, args.d_mlp))
    )
    times = 20 if device.type == "cuda" else 3

    def go() -> None:
        for _ in range(times):
            x @ w

    go()
    return max(2 * rows * args.d_model * args.d_mlp * times / timed(go, device)["seconds"] for _ in range(5))


def timed(job: Callable[[], Any], device: Any) -> dict[str, float]:
    """Return seconds until the device is idle, and the increase of its peak memory."""
    import torch

    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) if gpu else 0
    started = time.perf_counter()
    job()
    if gpu:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_bytes": float(torch.cuda.max_memory_allocated(device) - before) if gpu else 0.0}


def name_of(device: Any) -> str:
    """Return the name of the device."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def text(results: dict[str, Any]) -> str:
    """Return the printed table."""
    lines = [f"{results['device']}"]
    for method in dict.fromkeys(row["method"] for row in results["rows"]):
        selected = [row for row in results["rows"] if row["method"] == method]
        speed = [row["tokens_per_second"] for row in selected]
        peak = max(row["peak_bytes"] for row in selected) / 2**20
        lines.append(
            f"  {method:16s} {statistics.median(speed):10.0f} tokens/s [{min(speed):.0f}, {max(speed):.0f}]  peak {peak:.0f} MB"
        )
    return "\n".join([*lines, *(f"{check}: {value:.4g}" for check, value in results["checks"].items())])


if __name__ == "__main__":
    sys.exit(main())
