"""Checkpoints of a collection: the next call resumes from the file with the same result, bit for bit."""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from neva_tl.activations.accumulate import Accumulator
from neva_tl.activations.ranks import World
from neva_tl.core.errors import InputError
from neva_tl.core.files import DAMAGED, atomic_write, remove_stale_tmp
from neva_tl.models import fingerprint_difference

#: Maximum share of the time spent on writing the state, which is as large as the moments.
SHARE = 0.05


@dataclass
class Checkpoint:
    """Saved state of one process of a collection; every process has its own file.

    Attributes:
        path: Prefix of the file names.
        settings: Settings that a later call must share to resume (JSON): model, prompts, pooling, the plan of batches.
        world: Processes of the collection.
        every: Seconds between two saves, longer if writing takes long; 0: after every batch.
        finished: Numbers of the plan's batches whose moments are in the accumulator.
        limit: Padded tokens that fit in memory, after a larger batch did not; None before.
        rows: Row of the sample file -> checksum of its content.
    """

    path: Path
    settings: Mapping[str, Any]
    world: World
    every: float = 5.0
    finished: list[int] = field(default_factory=list)
    limit: int | None = None
    rows: dict[str, int] = field(default_factory=dict)
    _saved: float = field(default_factory=time.monotonic)
    _cost: float = 0.0

    @property
    def file(self) -> Path:
        """File of this process."""
        return self.path.with_name(f"{self.path.name}.{self.world.rank + 1}of{self.world.size}.safetensors")

    def files(self) -> list[Path]:
        """Return the existing files of all processes, for any world size."""
        return sorted(self.path.parent.glob(f"{escape(self.path.name)}.[0-9]*of[0-9]*.safetensors"))

    def restore(self, empty: Accumulator) -> set[int]:
        """Load the state of earlier calls into an accumulator.

        Each process reads its own file. Files of another world size are merged into the moments of rank 0.

        Args:
            empty: Accumulator that takes the moments.

        Returns:
            Numbers of the batches that any process has finished.

        Raises:
            InputError: A file belongs to another collection, or is damaged.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale_tmp(self.file)
        states = {file: self._read(file) for file in self.files()}
        local_state = states.pop(self.file, None)
        if local_state is not None:
            self._load(local_state, empty)
        peers = {self._name(rank) for rank in range(self.world.size)}
        other_files = [file for file in states if file.name not in peers]
        if self.world.first:
            for file in other_files:
                meta, tensors = states[file]
                # after a kill between writing the merged state and deleting the other files both exist
                if not set(meta["done"]) <= set(self.finished):
                    other = Accumulator(empty.values, [{} for _ in empty.layers])
                    _fill(other, tensors)
                    empty.merge(other)
                    self.finished += meta["done"]
                    self.rows |= meta.get("rows", {})
            if other_files:
                self.save(empty)
        gathered = self.world.gathered(self.finished)
        if self.world.first:
            for file in other_files:
                file.unlink()
        return {number for numbers in gathered for number in numbers}

    def count_rows(self, samples: np.ndarray | None, rows: np.ndarray) -> None:
        """Keep the checksums of finished rows of the sample file.

        Args:
            samples: The sample file; None without samples.
            rows: Row numbers.
        """
        if samples is not None:
            self.rows |= {str(row): _checksum(samples[row]) for row in rows}

    def due(self) -> bool:
        """Return whether the next save is due."""
        return not self.every or time.monotonic() - self._saved >= max(self.every, self._cost / SHARE)

    def save(self, accumulated: Accumulator) -> None:
        """Write the state atomically.

        Args:
            accumulated: Moments of this process.
        """
        started = time.monotonic()
        tensors = {
            f"{layer}.{name}": x for layer, arrays in enumerate(accumulated.layers) for name, x in arrays.items()
        }
        tensors |= {"n": torch.from_numpy(accumulated.n), "diff_n": torch.from_numpy(accumulated.diff_n)}
        tensors = {name: x.contiguous().cpu() for name, x in tensors.items()}
        meta = json.dumps({"settings": self.settings, "done": self.finished, "limit": self.limit, "rows": self.rows})
        with atomic_write(self.file, recorded=False) as file:  # it has a hash of its own
            save_file(tensors, file, {"state": meta, "sha256": _digest(meta, tensors)})
        self._saved = time.monotonic()
        self._cost = self._saved - started

    def remove(self) -> None:
        """Delete the file of this process, once the collection is finished."""
        self.file.unlink(missing_ok=True)

    def _name(self, rank: int) -> str:
        return f"{self.path.name}.{rank + 1}of{self.world.size}.safetensors"

    def _read(self, file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
        meta, tensors = _content(file)
        before = meta["settings"]
        differ = sorted(key for key, value in self.settings.items() if _differs(key, before.get(key), value))
        if differ:
            raise InputError(
                f"{file} is the state of another collection (it differs in {', '.join(differ)}): remove it, or give "
                "another checkpoint"
            )
        return meta, tensors

    def _load(self, state: tuple[dict[str, Any], dict[str, Tensor]], empty: Accumulator) -> None:
        meta, tensors = state
        _fill(empty, tensors)
        self.finished, self.limit = list(meta["done"]), meta["limit"]
        self.rows = dict(meta.get("rows", {}))


def changed_state(path: Path, samples: Path) -> dict[Path, str]:
    """Find the changed files of an unfinished collection.

    Args:
        path: Prefix of the checkpoint's file names.
        samples: The sample file.

    Returns:
        File -> reason. Changed samples include all checkpoints, whose moments count their rows.
    """
    reasons: dict[Path, str] = {}
    rows: dict[str, int] = {}
    files = Checkpoint(path, {}, World()).files()
    for file in files:
        try:
            rows |= _content(file)[0].get("rows", {})
        except InputError:
            reasons[file] = "its content differs"
    if files and not reasons and not _same_rows(samples, rows):
        reasons = {samples: "its rows differ", **dict.fromkeys(files, f"counts rows of {samples.name}")}
    return reasons


def _same_rows(samples: Path, rows: Mapping[str, int]) -> bool:
    if not rows:  # a state of version 0.1 has no checksums
        return True
    try:
        array = np.load(samples, mmap_mode="r", allow_pickle=False)
        return all(_checksum(array[int(row)]) == checksum for row, checksum in rows.items())
    except (OSError, ValueError, EOFError, SyntaxError, IndexError):
        return False


def _checksum(row: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(row).data)


def _digest(meta: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(meta.encode())
    for name, x in sorted(tensors.items()):
        digest.update(f"{name} {x.dtype} {tuple(x.shape)}".encode())
        digest.update(x.numpy().reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _content(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a state; one of version 0.1 has no hash."""
    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata()
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
        meta = json.loads(header["state"])
        same = "sha256" not in header or header["sha256"] == _digest(header["state"], tensors)
    except (OSError, RuntimeError, *DAMAGED) as error:
        raise InputError(f"{file} holds no state of a collection: move it away, or give another checkpoint") from error
    if not same:
        raise InputError(f"{file} was changed since it was written: move it away, to collect from the start")
    return meta, tensors


def _differs(key: str, before: Any, now: Any) -> bool:
    """Whether a setting differs; a state of version 0.1 has a shorter fingerprint of the model."""
    if key == "model" and isinstance(before, Mapping):
        return bool(fingerprint_difference(before, now))
    return bool(before != now)


def _fill(accumulated: Accumulator, tensors: Mapping[str, Tensor]) -> None:
    for name, x in tensors.items():
        layer, _, array = name.partition(".")
        if array:
            arrays = accumulated.layers[int(layer)]
            arrays[array] = x.to(arrays[array].device) if array in arrays else x
    accumulated.n, accumulated.diff_n = (tensors[name].numpy().copy() for name in ("n", "diff_n"))


def plan_hash(batches: list[np.ndarray]) -> str:
    """Return the hash of a plan: the rows of each batch, and their order.

    Args:
        batches: Row numbers of each batch.
    """
    digest = hashlib.sha256()
    for rows in batches:
        digest.update(np.asarray([len(rows), *rows], dtype=np.int64).tobytes())
    return digest.hexdigest()
