"""Many processes that share one collection: which batches are mine, and how moments come together.

Processes are `torch.distributed`'s (`torchrun`); gloo on CPUs, nccl on GPUs. A script of the user's that has called
`init_process_group` itself shares its prompts out in the same way.
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

#: The fastest rank may wait for the slowest that long; a lost one is noticed by its closed connection.
PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class World:
    """The processes at work together.

    Attributes:
        rank: this one's number; size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def alone(self) -> bool:
        """Whether there is only this process."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def owns(self, number: int) -> bool:
        """Whether a batch falls to this process: by its number in the plan, so that a resumed run shares it out alike."""
        return number % self.size == self.rank

    def gathered(self, item: Any) -> list[Any]:
        """Each process's item, in the order of ranks."""
        if self.alone:
            return [item]
        found: list[Any] = [None] * self.size
        with _together():
            dist.all_gather_object(found, item)
        return found

    def wait(self) -> None:
        """Until all processes are here."""
        if not self.alone:
            with _together():
                dist.barrier()


def current_world() -> World:
    """The processes that `torch.distributed` knows of; one alone where it was not started."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World()


@contextmanager
def joined() -> Iterator[World]:
    """Join the others where `torchrun` started this process; one process alone else."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "TORCHELASTIC_RUN_ID" not in os.environ or dist.is_initialized():
        yield current_world()
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    with _together():
        # gloo beside nccl: what is no GPU tensor goes between the hosts
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=PATIENCE)
    try:
        yield current_world()
    finally:
        dist.destroy_process_group()


@contextmanager
def _together() -> Iterator[None]:
    """Communication; a lost process becomes one clear line."""
    try:
        yield
    except (RuntimeError, dist.DistBackendError) as error:
        line = str(error).strip().splitlines()[0][:160]
        raise WorkError(
            f"another process of this collection was lost ({line}): run the same command again; with a checkpoint it "
            "goes on where it stopped"
        ) from error


def all_reduced(accumulated: Accumulator, here: World) -> None:
    """Moments of all processes, in all of them: two sums per array (`n mean`; `M2 + n (mean - common mean)^2`)."""
    if here.alone:
        return
    counts = {"n": torch.from_numpy(accumulated.n.copy()), "diff_n": torch.from_numpy(accumulated.diff_n.copy())}
    totals = {name: _sum(count.clone()) for name, count in counts.items()}
    for held in accumulated.layers:
        for count, (mean, m2) in accumulated.moments:
            x = held[mean]
            n, total = (c.reshape(-1, 1).to(x.device, x.dtype) for c in (counts[count], totals[count]))
            common = _sum(x * n) / total.clamp(min=1)
            held[m2] = _sum(held[m2] + n * (x - common).square())
            held[mean] = common
        for name in accumulated.sums:
            held[name] = _sum(held[name])
    accumulated.n, accumulated.diff_n = (totals[name].numpy().astype(np.int64) for name in ("n", "diff_n"))


def _sum(x: Tensor) -> Tensor:
    with _together():
        dist.all_reduce(x)
    return x
