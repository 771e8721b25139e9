"""How far a collection is, in a file that is written whole: after a kill the next call goes on from it, bit for bit."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from neva_tl.activations.accumulate import Accumulator
from neva_tl.activations.ranks import World
from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write, remove_stale_tmp

#: Writing the state takes at most this share of the time (it is as large as the moments).
SHARE = 0.05


@dataclass
class Checkpoint:
    """The state of one process of a collection, beside those of the others.

    Attributes:
        path: what the files' names begin with.
        settings: what two calls must agree in to belong together (JSON): model, prompts, pooling, the plan of batches.
        here: this process among the others.
        every: seconds between two states, longer where writing takes long; 0: after every batch.
        done: numbers of the plan's batches whose moments are in the accumulator.
        limit: padded tokens that fit in memory, where more did not; None: nothing failed yet.
    """

    path: Path
    settings: Mapping[str, Any]
    here: World
    every: float = 5.0
    done: list[int] = field(default_factory=list)
    limit: int | None = None
    _saved: float = field(default_factory=time.monotonic)
    _cost: float = 0.0

    @property
    def file(self) -> Path:
        """This process's file."""
        return self.path.with_name(f"{self.path.name}.{self.here.rank + 1}of{self.here.size}.safetensors")

    def files(self) -> list[Path]:
        """All processes' files that are there, whatever their number was."""
        return sorted(self.path.parent.glob(f"{escape(self.path.name)}.[0-9]*of[0-9]*.safetensors"))

    def restore(self, empty: Accumulator) -> set[int]:
        """Read what earlier calls reached into an accumulator.

        Its own file with as many processes as then; files of another number of processes join the first one's moments.

        Returns:
            Batches that are done by any process.

        Raises:
            InputError: a file belongs to another collection, or is damaged.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale_tmp(self.file)
        found = {file: self._read(file) for file in self.files()}
        mine = found.pop(self.file, None)
        if mine is not None:
            self._take(mine, empty)
        peers = {self._name(rank) for rank in range(self.here.size)}
        strangers = [file for file in found if file.name not in peers]
        if self.here.first:
            for file in strangers:
                meta, tensors = found[file]
                # a kill between writing the joined state and deleting its parts leaves both
                if not set(meta["done"]) <= set(self.done):
                    other = Accumulator(empty.values, [{} for _ in empty.layers])
                    _fill(other, tensors)
                    empty.merge(other)
                    self.done += meta["done"]
            if strangers:
                self.save(empty)
        gathered = self.here.gathered(self.done)
        if self.here.first:
            for file in strangers:
                file.unlink()
        return {number for part in gathered for number in part}

    def due(self) -> bool:
        """Whether it is time for another state."""
        return not self.every or time.monotonic() - self._saved >= max(self.every, self._cost / SHARE)

    def save(self, accumulated: Accumulator) -> None:
        """Write the state, whole or not at all."""
        started = time.monotonic()
        tensors = {f"{layer}.{name}": x for layer, held in enumerate(accumulated.layers) for name, x in held.items()}
        tensors |= {"n": torch.from_numpy(accumulated.n), "diff_n": torch.from_numpy(accumulated.diff_n)}
        meta = {"settings": self.settings, "done": self.done, "limit": self.limit}
        with atomic_write(self.file) as file:
            save_file({name: x.contiguous().cpu() for name, x in tensors.items()}, file, {"state": json.dumps(meta)})
        self._saved = time.monotonic()
        self._cost = self._saved - started

    def remove(self) -> None:
        """The collection is finished and kept elsewhere."""
        self.file.unlink(missing_ok=True)

    def _name(self, rank: int) -> str:
        return f"{self.path.name}.{rank + 1}of{self.here.size}.safetensors"

    def _read(self, file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
        try:
            with safe_open(file, framework="pt") as opened:
                meta = json.loads(opened.metadata()["state"])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise InputError(
                f"{file} holds no state of a collection: move it away, or name another checkpoint"
            ) from error
        differ = sorted(key for key, value in self.settings.items() if meta["settings"].get(key) != value)
        if differ:
            raise InputError(
                f"{file} is the state of another collection (it differs in {', '.join(differ)}): remove it, or name "
                "another checkpoint"
            )
        return meta, tensors

    def _take(self, state: tuple[dict[str, Any], dict[str, Tensor]], empty: Accumulator) -> None:
        meta, tensors = state
        _fill(empty, tensors)
        self.done, self.limit = list(meta["done"]), meta["limit"]


def _fill(accumulated: Accumulator, tensors: Mapping[str, Tensor]) -> None:
    for name, x in tensors.items():
        layer, _, array = name.partition(".")
        if array:
            held = accumulated.layers[int(layer)]
            held[array] = x.to(held[array].device) if array in held else x
    accumulated.n, accumulated.diff_n = (tensors[name].numpy().copy() for name in ("n", "diff_n"))


def plan_hash(batches: list[np.ndarray]) -> str:
    """Identity of a plan: which rows run together, in which order."""
    digest = hashlib.sha256()
    for rows in batches:
        digest.update(np.asarray([len(rows), *rows], dtype=np.int64).tobytes())
    return digest.hexdigest()
