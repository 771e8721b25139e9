"""File of pooled activations: one row per text, memory-mapped, shared by the ranks of a collection."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from neva_tl.activations.ranks import World
from neva_tl.core.errors import InputError


def open_samples(
    samples: bool | str | Path, shape: tuple[int, int, int], world: World, *, fresh: bool
) -> np.ndarray | None:
    """Open the array of pooled activations, in memory or as a memory-mapped file.

    Args:
        samples: False for no samples, True for an array in memory, or the path of the `.npy` file.
        shape: `(n, l, k)`, that is, texts, layers and neurons of a layer.
        world: Ranks that share the file; the first one creates it.
        fresh: Create the file; False opens the one of an earlier call.

    Raises:
        InputError: The file belongs to another collection.
    """
    if samples is False:
        return None
    if samples is True:
        return np.empty(shape, dtype=np.float32)
    path = Path(samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    mode: Literal["w+", "r+"] = "w+"
    if not fresh or not world.first:
        world.wait()
        mode = "r+"
    try:
        store = np.lib.format.open_memmap(path, mode=mode, dtype=np.float32, shape=shape)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is not the sample file of this collection ({error}): remove its checkpoint"
        ) from error
    if mode == "w+":
        world.wait()
    if store.shape != shape:
        raise InputError(f"{path} is not the sample file of this collection: remove its checkpoint")
    return store


def flush(store: np.ndarray | None) -> None:
    """Write a memory-mapped array to its file.

    Args:
        store: The array; an array in memory, or None, needs no write.
    """
    if isinstance(store, np.memmap):
        store.flush()
