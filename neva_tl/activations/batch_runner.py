"""Forward passes of the batches of a collection; a batch that does not fit in memory is halved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neva_tl.activations.accumulate import Accumulator, CellIndex, CellUpdate, Pooled, Reduced
from neva_tl.activations.plan import Texts
from neva_tl.activations.pooling import Recorder
from neva_tl.activations.prefixes import Prefixes
from neva_tl.core.errors import InputError, WorkError
from neva_tl.models import Model
from neva_tl.models.inference.encoding import pad


@dataclass
class BatchRunner:
    """Runs the batches of a collection and adds their pooled activations to the moments.

    Attributes:
        model: The model.
        texts: Token ids of all rows.
        table: Rows of the contrast set.
        cells: Cell of the moments that each row belongs to.
        recorder: Hooks that pool the activations.
        prefixes: Prompt prefixes that run once per batch; None if no prefix is shared.
        units: `[n]` unit of each row: the rows of a pair share one.
        by_token: Whether every answer token is an observation.
        limit: Padded tokens that fit in memory, after a larger batch did not; None before.
    """

    model: Model
    texts: Texts
    table: pd.DataFrame
    cells: CellIndex
    recorder: Recorder
    prefixes: Prefixes | None
    units: np.ndarray
    by_token: bool
    limit: int | None

    def batch(self, rows: np.ndarray, accumulator: Accumulator, store: np.ndarray | None) -> None:
        """Run a batch of the plan, in as many passes as memory requires, and add it to the moments.

        Args:
            rows: Row numbers of the batch.
            accumulator: Running moments.
            store: `[n, l, k]` array that takes the samples; None keeps no samples.

        Raises:
            InputError: An activation is not finite.
            WorkError: A single text does not fit in memory.
        """
        for chunk in self._chunks(rows):
            result = self._fitting(chunk)
            if result is None:
                # too large: its halves come next
                for half in self._halves(chunk):
                    self.batch(half, accumulator, store)
                continue
            update, pooled = result
            accumulator.add(update, pooled)
            if store is not None:
                for layer, of_layer in enumerate(pooled):
                    post = of_layer["post"]
                    assert isinstance(post, Tensor)
                    store[chunk, layer] = post.cpu().numpy()

    def _chunks(self, rows: np.ndarray) -> list[np.ndarray]:
        """Split the rows into chunks that are not known to be too large."""
        if self.limit is None or self._tokens(rows) <= self.limit or self.units[rows[0]] == self.units[rows[-1]]:
            return [rows]
        return [chunk for half in self._halves(rows) for chunk in self._chunks(half)]

    def _halves(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Split into two chunks of similar size without separating a pair (rows of a pair are neighbours)."""
        starts = np.flatnonzero(np.diff(self.units[rows])) + 1
        middle = starts[np.abs(starts - len(rows) // 2).argmin()]
        return rows[:middle], rows[middle:]

    def _tokens(self, rows: np.ndarray) -> int:
        return len(rows) * int(self.texts.lengths[rows].max())

    def _fitting(self, rows: np.ndarray) -> tuple[CellUpdate, list[Pooled]] | None:
        """Run one forward pass, or one per row if a pair is too large; return None if the caller should halve the rows."""
        single_unit = self.units[rows[0]] == self.units[rows[-1]]
        if self.limit is None or self._tokens(rows) <= self.limit or len(rows) == 1:
            try:
                return self._forward(rows)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if len(rows) == 1:
                    text = str(self.table["text"].iloc[rows[0]])
                    raise WorkError(
                        f"out of memory on a text of {self.texts.lengths[rows[0]]} tokens ({text[:60]!r}): use a smaller "
                        "dtype, another device, or shorter texts"
                    ) from error
                self.limit = self._tokens(rows) // 2
            # outside the handler: its traceback keeps the failed pass's tensors alive
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        if not single_unit:
            return None
        singles = [self._fitting(rows[i : i + 1]) for i in range(len(rows))]
        return self.cells.update(rows), _concatenated([single[1] for single in singles if single is not None])

    def _forward(self, rows: np.ndarray) -> tuple[CellUpdate, list[Pooled]]:
        update = self.cells.update(rows)
        if self.by_token:
            update = update.repeated(self.texts.lengths[rows] - self.texts.starts[rows])
        items = self.texts.encoded(rows)
        batch, past = (pad(self.model, items), None) if self.prefixes is None else self.prefixes.before(items)
        pooled = self.recorder.run(batch, update, past)
        check_finite(pooled, self.table, rows)
        return update, pooled


def _concatenated(passes: Sequence[list[Pooled]]) -> list[Pooled]:
    """Concatenate the pooled rows of several passes."""

    def joined(layer: int, name: str) -> Tensor:
        rows = [pooled[layer][name] for pooled in passes]
        return torch.cat([x for x in rows if isinstance(x, Tensor)])

    return [{name: joined(layer, name) for name in of_layer} for layer, of_layer in enumerate(passes[0])]


def _out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out; the exception differs between devices."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error)
    return any(phrase in message for phrase in ("can't allocate memory", "out of memory", "could not create a memory"))


def check_finite(pooled: Sequence[Pooled], table: pd.DataFrame, rows: np.ndarray) -> None:
    """Check that all pooled activations are finite.

    Args:
        pooled: Pooled activations of each layer.
        table: Rows of the contrast set.
        rows: Row numbers of the batch.

    Raises:
        InputError: An activation is not finite; the message names the layer and the prompt.
    """
    tensors = [
        (layer, name, x.mean if isinstance(x, Reduced) else x)
        for layer, of_layer in enumerate(pooled)
        for name, x in of_layer.items()
    ]
    # a sum is finite only if every term is; one synchronisation per device, since each one stalls a GPU
    if all(_stacked([torch.isfinite(x.sum()) for _, _, x in tensors])):
        return
    # later layers inherit the fault of the first one; no fault at all: only the sum overflowed
    fault = next((entry for entry in tensors if not bool(torch.isfinite(entry[2]).all())), None)
    if fault is None:
        return
    layer, name, x = fault
    bad = torch.nonzero(~torch.isfinite(x).all(dim=1))[0, 0]
    of_rows = len(x) == len(rows) and not isinstance(pooled[layer]["post"], Reduced)
    text = str(table["text"].iloc[rows[int(bad) if of_rows else 0]])
    where = "on prompt" if of_rows else f"on one of {len(rows)} prompts, the first of which is"
    raise InputError(
        f"{name} activations are not finite at layer {layer} {where} {text[:60]!r}: "
        "check the weights, or use another number format (dtype float32)"
    )


def _stacked(flags: Sequence[Tensor]) -> list[bool]:
    by_device: dict[torch.device, list[Tensor]] = {}
    for flag in flags:
        by_device.setdefault(flag.device, []).append(flag)
    return [bool(torch.stack(flags_of_device).all()) for flags_of_device in by_device.values()]
