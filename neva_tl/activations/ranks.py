"""Processes that share one collection: the batches of each rank, and the reduction of moments over ranks.

The processes are those of `torch.distributed` (`torchrun`), with gloo on CPUs and nccl on GPUs. A user's script that
calls `init_process_group` itself shares its prompts in the same way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from neva_tl.activations.accumulate import Accumulator
from neva_tl.core.errors import WorkError

#: Maximum time that the fastest rank waits for the slowest; a lost rank is noticed by its closed connection.
PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class World:
    """The processes of a collection.

    Attributes:
        rank: Rank of this process.
        size: World size.
    """

    rank: int = 0
    size: int = 1

    @property
    def alone(self) -> bool:
        """Whether this is the only process."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes the shared files."""
        return self.rank == 0

    def owns(self, number: int) -> bool:
        """Return whether a batch belongs to this rank; the same batches belong to it in a resumed run.

        Args:
            number: Number of the batch in the plan.
        """
        return number % self.size == self.rank

    def gathered(self, item: Any) -> list[Any]:
        """Gather one item of each process, in the order of ranks.

        Args:
            item: The item of this process.
        """
        if self.alone:
            return [item]
        items: list[Any] = [None] * self.size
        with _communication():
            dist.all_gather_object(items, item)
        return items

    def wait(self) -> None:
        """Wait until all processes reach this call."""
        if not self.alone:
            with _communication():
                dist.barrier()


def current_world() -> World:
    """Return the processes of `torch.distributed`, or a single one if it is not initialised."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World()


@contextmanager
def joined() -> Iterator[World]:
    """Join the process group if `torchrun` started this process; otherwise yield a single process."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "TORCHELASTIC_RUN_ID" not in os.environ or dist.is_initialized():
        yield current_world()
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    with _communication():
        # gloo as well as nccl, for tensors and objects on the CPU
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=PATIENCE)
    try:
        yield current_world()
    finally:
        dist.destroy_process_group()


@contextmanager
def _communication() -> Iterator[None]:
    """Turn the loss of another process during communication into a `WorkError`."""
    try:
        yield
    except (RuntimeError, dist.DistBackendError) as error:
        line = str(error).strip().splitlines()[0][:160]
        raise WorkError(
            f"another process of this collection was lost ({line}): run the same command again; with a checkpoint it "
            "resumes from the last saved state"
        ) from error


def all_reduced(accumulated: Accumulator, world: World) -> None:
    """Reduce the moments of all processes in place, by two sums per array (`n mean`; `M2 + n (mean - common mean)^2`).

    Args:
        accumulated: Moments of this process; those of all processes afterwards.
        world: The processes.
    """
    if world.alone:
        return
    counts = {"n": torch.from_numpy(accumulated.n.copy()), "diff_n": torch.from_numpy(accumulated.diff_n.copy())}
    totals = {name: _sum(count.clone()) for name, count in counts.items()}
    for arrays in accumulated.layers:
        for count, (mean, m2) in accumulated.moments:
            x = arrays[mean]
            n, total = (c.reshape(-1, 1).to(x.device, x.dtype) for c in (counts[count], totals[count]))
            common = _sum(x * n) / total.clamp(min=1)
            arrays[m2] = _sum(arrays[m2] + n * (x - common).square())
            arrays[mean] = common
        for name in accumulated.sums:
            arrays[name] = _sum(arrays[name])
    accumulated.n, accumulated.diff_n = (totals[name].numpy().astype(np.int64) for name in ("n", "diff_n"))


def _sum(x: Tensor) -> Tensor:
    with _communication():
        dist.all_reduce(x)
    return x
