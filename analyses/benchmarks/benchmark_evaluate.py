"""Time to measure the leakage of ten values, with empty and with full caches.

    python analyses/benchmarks/benchmark_evaluate.py [--prompts 1000] [--tokens 20] [--threads 2] [--cache FOLDER]

Loads the demo model, selects the neurons of the ten values and steers towards each (neither is timed), then times
`nv.leakage` with the exact judge, intervals included: unedited and ten conditions, one text a prompt. The first pass starts
from empty caches of texts and scores, the second from those of the first, in files opened again. Both results must be
equal. Seconds are wall time; CPU seconds (all threads) are the need of an idle machine. With `--cache` the files stay, so
that the next start measures full caches in a fresh process.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from neva_tl.core.errors import NevaError

NEURONS, DOSE, TEMPERATURE = 40, 2.0, 1.0


def main() -> int:
    """Run the benchmark; missing input is an error of one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=1000, help="open prompts a condition")
    parser.add_argument("--tokens", type=int, default=20, help="new tokens a text")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--cache", type=Path, help="folder of the caches (default: a temporary one)")
    args = parser.parse_args()
    try:
        measure(args.prompts, args.tokens, args.threads, args.cache)
    except NevaError as error:
        print(f"benchmark_evaluate: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def timed(title: str, work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of some work and its wall seconds; print both times."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{title:34s} {wall:7.2f} s wall {cpu:7.2f} s CPU", flush=True)
    return result, wall


def measure(n: int, tokens: int, threads: int, folder: Path | None) -> None:
    """Time both passes and compare their results."""
    (nv, model, prompts, edits), _ = timed("imports, model, ten edits", lambda: prepare(n, threads))
    from neva_tl.evaluation import Decoding

    decoding = Decoding(max_new_tokens=tokens, temperature=TEMPERATURE)
    with tempfile.TemporaryDirectory() if folder is None else nullcontext(folder) as caches:

        def evaluate() -> Any:
            from neva_tl.core.cache import JsonCache
            from neva_tl.evaluation.judges import CachedJudge, ExactJudge

            judge = CachedJudge(ExactJudge(), Path(caches) / "readings.sqlite")
            texts = JsonCache(Path(caches) / "texts.sqlite")
            print(f"  in the cache: {len(texts):,} texts")
            return nv.leakage(model, edits, prompts, judge, decoding=decoding, cache=texts, progress=False)

        cold, seconds = timed("first pass", evaluate)
        warm, _ = timed("second pass", evaluate)
    n_tokens = sum(len(ids) for ids in nv.models.tokenizer(model)(cold.generations["text"].tolist())["input_ids"])
    print(
        f"{len(cold.generations):,} texts, {n_tokens:,} tokens: {n_tokens / seconds:,.0f} tokens a second in the first pass"
    )
    print(cold)
    assert cold.table().equals(warm.table()), "the two passes measured different things"
    assert cold.summary().equals(warm.summary())
    assert cold.generations.equals(warm.generations)


def prepare(n: int, threads: int) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Return the package, the demo model, open test prompts and one edit per value."""
    import torch

    import neva_tl as nv
    from neva_tl import demo

    torch.set_num_threads(threads)
    model = nv.load("demo")
    stats = nv.collect(model, nv.prompts.load("demo").split("train"), pooling="mean")
    edits = {
        value: nv.Amplify(nv.select(stats, value, method="effect_size", k=NEURONS), dose=DOSE) for value in nv.VALUES
    }
    return nv, model, demo.open_prompts("test", n), edits


if __name__ == "__main__":
    sys.exit(main())
