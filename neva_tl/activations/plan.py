"""Which texts run together: sorted by length and packed by a budget of tokens, pairs never parted."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Int

from neva_tl.models import Model
from neva_tl.models.inference.encoding import Encoded, encode_one
from neva_tl.prompts.example import Example

#: Rows of a batch: no more than texts of so many tokens fill it with, and at most so many. Pooled vectors of all layers wait
#: for the end of a pass, a row's as many however short it is: memory must not grow where texts are short.
SHORT, MOST_ROWS = 16, 256
#: Padded tokens of a batch on a GPU: what keeps it busy.
GPU_TOKENS = 16_384
#: On a CPU: activations of one layer (tokens x d_mlp) that a core's caches hold, and between how many tokens that is kept.
CACHED, FEWEST, MOST = 3 << 19, 256, 2048
#: Texts tokenised in one call: bounds what Python objects of them are alive at once.
TOKENISED_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Texts:
    """Token ids of many texts end to end: four bytes a token, where Python lists would take forty.

    Attributes:
        ids: of all texts, one after the other.
        ends: where each text ends in `ids`.
        starts: how many tokens of each text come before its answer.
    """

    ids: Int[np.ndarray, " tokens"]
    ends: Int[np.ndarray, " n"]
    starts: Int[np.ndarray, " n"]

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """Tokens of each text."""
        return np.diff(self.ends, prepend=0)

    @property
    def hash(self) -> str:
        """sha256 of the token ids, where texts end and where answers begin: equal where the same tokens run."""
        digest = hashlib.sha256()
        for numbers, kind in ((self.ids, "<i4"), (self.ends, "<i8"), (self.starts, "<i8")):
            digest.update(len(numbers).to_bytes(8, "little") + numbers.astype(kind, copy=False).tobytes())
        return digest.hexdigest()

    def encoded(self, rows: Sequence[int] | np.ndarray) -> list[Encoded]:
        """Some texts as `encoding.pad` takes them."""
        lengths = self.lengths[rows]
        return [
            Encoded(tuple(self.ids[end - length : end].tolist()), int(start))
            for end, length, start in zip(self.ends[rows], lengths, self.starts[rows], strict=True)
        ]


def tokenised(model: Model, examples: Iterable[Example], chat: bool | None) -> Texts:
    """Token ids of all examples, some at a time.

    Raises:
        InputError: one is longer than the context.
    """
    # grow as they go: parts that are joined at the end would be held twice
    ids, ends, starts = array("i"), array("q"), array("q")
    left = iter(examples)
    while some := list(islice(left, TOKENISED_AT_ONCE)):
        for item in encode_one(model, some, chat=chat):
            ids.extend(item.ids)
            ends.append(len(ids))
            starts.append(item.start)
    return Texts(np.frombuffer(ids, np.int32), np.frombuffer(ends, np.int64), np.frombuffer(starts, np.int64))


def token_budget_for(device_type: str, d_mlp: int) -> int:
    """Padded tokens of a batch.

    On a CPU what its caches hold: on the shape of GPT-2, 512 tokens took four fifths of the time of 2,048 (activation functions
    read and write memory several times), and smaller batches pad ragged texts less. On small models a pass costs its overhead.
    """
    return min(max(CACHED // d_mlp, FEWEST), MOST) if device_type == "cpu" else GPU_TOKENS


def most_rows(token_budget: int) -> int:
    """Rows of a batch, whatever their length."""
    return min(max(token_budget // SHORT, 1), MOST_ROWS)


def packed(
    lengths: Int[np.ndarray, " n"], units: Int[np.ndarray, " n"], token_budget: int, max_rows: int
) -> list[Int[np.ndarray, " rows"]]:
    """Row numbers in batches: the longest first, so that what memory cannot hold shows at once.

    Args:
        lengths: tokens of each row.
        units: rows of one number (a pair) stay in one batch.
        token_budget: tokens of a batch, padding included; a unit beyond it is a batch of its own.
        max_rows: rows of a batch, whatever their length; a larger unit is a batch of its own.
    """
    width = np.zeros(int(units.max(initial=-1)) + 1, dtype=np.int64)
    np.maximum.at(width, units, lengths)
    # by the unit's longest row, then by unit, so that a unit's rows are neighbours
    order = np.lexsort((units, -width[units]))
    return list(_filled(order, units, width, token_budget, max_rows))


def _filled(
    order: np.ndarray, units: np.ndarray, width: np.ndarray, token_budget: int, max_rows: int
) -> Iterator[np.ndarray]:
    start = 0
    while start < len(order):
        rows = min(max_rows, max(1, token_budget // max(1, int(width[units[order[start]]]))))
        stop = min(start + rows, len(order))
        # a unit cut by the budget moves to the next batch, unless it is the only one
        cut = stop
        while stop < len(order) and cut > start and units[order[cut]] == units[order[cut - 1]]:
            cut -= 1
        if cut == start:
            cut = stop
            while cut < len(order) and units[order[cut]] == units[order[cut - 1]]:
                cut += 1
        yield order[start:cut]
        start = cut
