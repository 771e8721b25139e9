"""Timing of methods in turn, each in a process of its own that stays loaded."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing as mp
import os
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from common.peers import DTYPE, FLOOR
from common.workloads import Workload

#: Largest difference of means, as a share of the neuron's spread and size: float32 sums in another order; in bfloat16 every
#: activation is rounded, and peers round attention scores too.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.5}


def timed(
    work: Workload, methods: Sequence[str], repeats: int, threads: int, weighings: int = 1
) -> Iterator[dict[str, Any]]:
    """Measure memory and time of each method.

    A new process measures memory each time but the last, because the need of a process varies by some megabytes.

    Args:
        work: model and texts.
        methods: keys of `RUNNABLE`; the first is the reference, and collects moments.
        repeats: timed runs of each method.
        threads: threads of torch.
        weighings: measurements of memory.

    Yields:
        Rows of workload, method, and: peak_bytes (of a run that is not timed, above the memory resident before it); or repeat,
        seconds, tokens_per_second, difference (largest of any moment from the first method's, relative); or absent (not
        installed, or the reason of a failure).

    Raises:
        AssertionError: A method's moments differ from the first method's.
    """
    for _ in range(weighings - 1):
        yield from (row for row in timed(work, methods, 0, threads) if "peak_bytes" in row)
    context = mp.get_context("spawn")
    pipes: dict[str, tuple[Any, Connection]] = {}
    try:
        for method in methods:
            local_end, remote_end = context.Pipe()
            process = context.Process(target=serve, args=(remote_end, method, work, threads), daemon=True)
            process.start()
            remote_end.close()
            answer = _received(local_end, process)
            if "ready" in answer:
                pipes[method] = (process, local_end)
            else:
                yield {"workload": work.name, "method": method, **answer}
        for method, (process, pipe) in pipes.items():
            pipe.send("weigh")
            result = _answer(pipe, process, method)
            yield {"workload": work.name, "method": method, "peak_bytes": result["peak"]}
        reference: dict[str, np.ndarray] = {}
        for repeat in range(repeats):
            # the order rotates, so that no method always follows the same other one
            order = list(pipes)[repeat % len(pipes) :] + list(pipes)[: repeat % len(pipes)]
            for method in order:
                process, pipe = pipes[method]
                pipe.send("run")
                result = _answer(pipe, process, method)
                reference = reference or result
                difference = None if method == FLOOR else differs(reference, result)
                assert difference is None or difference < TOLERANCE[os.environ.get(DTYPE, "float32")], (
                    f"{method} differs from the first method by {difference:.2g} on {work.name}"
                )
                yield {
                    "workload": work.name,
                    "method": method,
                    "repeat": repeat,
                    "seconds": result["seconds"],
                    "tokens_per_second": work.tokens / result["seconds"],
                    "difference": difference,
                }
    finally:
        for process, pipe in pipes.values():
            pipe.close()
            process.join(10)
            process.kill()


def differs(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Return the largest relative difference of means and of M2.

    The units are |mean| + rms deviation for means, and M2 (plus a small constant) for M2.
    """
    spread = np.sqrt(a["m2"] / max(1, a["n"]))
    mean = np.abs(a["mean"] - b["mean"]) / (np.abs(a["mean"]) + spread + 1e-12)
    m2 = np.abs(a["m2"] - b["m2"]) / (a["m2"] + 1e-6 * a["m2"].max() + 1e-12)
    return float(max(mean.max(), m2.max()))


def _answer(pipe: Connection, process: Any, method: str) -> dict[str, Any]:
    result = _received(pipe, process)
    if "failed" in result:
        raise AssertionError(f"{method} failed in the middle: {result['failed']}")
    return result


def _received(pipe: Connection, process: Any) -> dict[str, Any]:
    try:
        return pipe.recv()
    except EOFError:
        process.join(5)
        return {"failed": f"its process ended ({process.exitcode})"}


def serve(pipe: Connection, method: str, work: Workload, threads: int) -> None:
    """Build a method, then run it once per message.

    A first run on a few texts keeps one-time work out of the measurements.

    Args:
        pipe: messages and answers.
        method: a key of `RUNNABLE`.
        work: model and texts.
        threads: threads of torch.
    """
    import torch

    from common.peers import RUNNABLE

    torch.set_num_threads(threads)
    texts, plus = work.read()
    try:
        prepare, run = RUNNABLE[method](work.folder)
        few = sorted({*np.flatnonzero(plus)[:4], *np.flatnonzero(~plus)[:4]})
        run(prepare([texts[i] for i in few], plus[few]))
        inputs = prepare(texts, plus)
        pipe.send({"ready": True})
    except ImportError as error:
        pipe.send({"absent": str(error)})
        return
    except Exception as error:  # a peer that does not know the architecture is a result
        pipe.send({"absent": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"})
        return
    try:
        while True:
            message = pipe.recv()
            blocks_are_mapped(always=message == "weigh")
            before = fresh_peak()
            started = time.perf_counter()
            mean, m2 = run(inputs)
            seconds = time.perf_counter() - started
            pipe.send({"seconds": seconds, "peak": status("VmHWM") - before, "mean": mean, "m2": m2, "n": len(texts)})
    except EOFError:
        return
    except Exception as error:
        pipe.send({"failed": f"{type(error).__name__}: {error}"})


def blocks_are_mapped(always: bool) -> None:
    """Set whether malloc maps every larger block separately.

    With separate blocks a peak is the memory in use, independent of the state of the heap. By default malloc raises the size
    from which it maps blocks up to 32 MB: timed runs have that from the start.

    Args:
        always: map all blocks from 64 kB; else from 32 MB.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, 1 << 16 if always else 32 << 20)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 1 << 17 if always else 64 << 20)  # M_TRIM_THRESHOLD


def fresh_peak() -> int:
    """Reset the peak of resident memory, and return the resident bytes (Linux)."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(key: str) -> int:
    """Return an entry of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key + ":")).split()[1]) * 1024
