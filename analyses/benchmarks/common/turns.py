"""Methods in turn, each in a process of its own that stays loaded between its turns and is idle in those of others."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing as mp
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from common.workloads import Workload

#: Results agree where means differ by less than that share of the neuron's spread and size (float32 sums in another order).
TOLERANCE = 1e-3


def timed(
    work: Workload, methods: Sequence[str], repeats: int, threads: int, weighings: int = 1
) -> Iterator[dict[str, Any]]:
    """Per method rows of its memory, and one per repeat; a method that is not installed or fails gives one row that says so.

    Memory is weighed in a process of its own each time but the last: what one process needs differs by some megabytes.

    Yields:
        workload, method, and: peak_bytes (of a run that is not timed, above what was resident before it); or repeat, seconds,
        tokens_per_second, difference (largest of any moment from the first method's, relative); or absent.

    Raises:
        AssertionError: a method's moments differ from the first one's.
    """
    for _ in range(weighings - 1):
        yield from (row for row in timed(work, methods, 0, threads) if "peak_bytes" in row)
    context = mp.get_context("spawn")
    pipes: dict[str, tuple[Any, Connection]] = {}
    try:
        for method in methods:
            mine, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, method, work, threads), daemon=True)
            process.start()
            theirs.close()
            said = _received(mine, process, method)
            if "ready" in said:
                pipes[method] = (process, mine)
            else:
                yield {"workload": work.name, "method": method, **said}
        for method, (process, pipe) in pipes.items():
            pipe.send("weigh")
            found = _answer(pipe, process, method)
            yield {"workload": work.name, "method": method, "peak_bytes": found["peak"]}
        reference: dict[str, np.ndarray] = {}
        for repeat in range(repeats):
            # the order turns, so that nobody always runs behind the same one
            order = list(pipes)[repeat % len(pipes) :] + list(pipes)[: repeat % len(pipes)]
            for method in order:
                process, pipe = pipes[method]
                pipe.send("run")
                found = _answer(pipe, process, method)
                reference = reference or found
                difference = differs(reference, found)
                assert difference < TOLERANCE, (
                    f"{method} differs from the first method by {difference:.2g} on {work.name}"
                )
                yield {
                    "workload": work.name,
                    "method": method,
                    "repeat": repeat,
                    "seconds": found["seconds"],
                    "tokens_per_second": work.tokens / found["seconds"],
                    "difference": difference,
                }
    finally:
        for process, pipe in pipes.values():
            pipe.close()
            process.join(10)
            process.kill()


def differs(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Largest difference of means in units of |mean| + rms deviation, and of M2 in units of M2 (plus a trace)."""
    spread = np.sqrt(a["m2"] / max(1, a["n"]))
    mean = np.abs(a["mean"] - b["mean"]) / (np.abs(a["mean"]) + spread + 1e-12)
    m2 = np.abs(a["m2"] - b["m2"]) / (a["m2"] + 1e-6 * a["m2"].max() + 1e-12)
    return float(max(mean.max(), m2.max()))


def _answer(pipe: Connection, process: Any, method: str) -> dict[str, Any]:
    found = _received(pipe, process, method)
    if "failed" in found:
        raise AssertionError(f"{method} failed in the middle: {found['failed']}")
    return found


def _received(pipe: Connection, process: Any, method: str) -> dict[str, Any]:
    try:
        return pipe.recv()
    except EOFError:
        process.join(5)
        return {"failed": f"its process ended ({process.exitcode})"}


def serve(pipe: Connection, method: str, work: Workload, threads: int) -> None:
    """Build a method, run it on a few texts so that nothing is timed that is built once, then run it once per message."""
    import torch

    from common.peers import METHODS

    torch.set_num_threads(threads)
    texts, plus = work.read()
    try:
        prepare, run = METHODS[method](work.folder)
        few = sorted({*np.flatnonzero(plus)[:4], *np.flatnonzero(~plus)[:4]})
        run(prepare([texts[i] for i in few], plus[few]))
        given = prepare(texts, plus)
        pipe.send({"ready": True})
    except ImportError as error:
        pipe.send({"absent": str(error)})
        return
    except Exception as error:  # a peer that does not know the architecture is a result
        pipe.send({"absent": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"})
        return
    try:
        while True:
            asked = pipe.recv()
            blocks_are_mapped(always=asked == "weigh")
            before = fresh_peak()
            started = time.perf_counter()
            mean, m2 = run(given)
            seconds = time.perf_counter() - started
            pipe.send({"seconds": seconds, "peak": status("VmHWM") - before, "mean": mean, "m2": m2, "n": len(texts)})
    except EOFError:
        return
    except Exception as error:
        pipe.send({"failed": f"{type(error).__name__}: {error}"})


def blocks_are_mapped(always: bool) -> None:
    """Let malloc map every larger block by itself, so that a peak is what is in use and not how the heap lies; or few again.

    By itself malloc raises the size from which it maps blocks to 32 MB as it goes: timed runs have that from the start.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, 1 << 16 if always else 32 << 20)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 1 << 17 if always else 64 << 20)  # M_TRIM_THRESHOLD


def fresh_peak() -> int:
    """Start a new peak of resident memory, and say what is resident now, in bytes (Linux), what was freed not counted."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key + ":")).split()[1]) * 1024
