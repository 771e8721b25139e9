"""Batches of a collection: texts sorted by length and packed by a token budget, pairs kept together."""

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
from neva_tl.prompts.contrast import ContrastSet, each_example
from neva_tl.prompts.example import Example

#: Maximum rows per batch: token_budget // SHORT, capped at MOST_ROWS. A row's pooled vectors take the same memory whatever its
#: length, so without the bound short texts would need more memory.
SHORT, MOST_ROWS = 16, 256
#: Padded tokens of a batch on a GPU: enough to use it fully.
GPU_TOKENS = 16_384
#: On a CPU: activations of one layer (tokens x d_mlp) that fit in a core's caches, and the bounds of the resulting tokens.
CACHED, FEWEST, MOST = 3 << 19, 256, 2048
#: Texts tokenised in one call: bounds the memory of their Python objects.
TOKENISED_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Texts:
    """Concatenated token ids of many texts: four bytes per token, where Python lists take forty.

    Attributes:
        ids: Token ids of all texts, one after the other.
        ends: Position in `ids` at which each text ends.
        starts: Tokens of each text before its answer.
    """

    ids: Int[np.ndarray, " tokens"]
    ends: Int[np.ndarray, " n"]
    starts: Int[np.ndarray, " n"]

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """Number of tokens of each text."""
        return np.diff(self.ends, prepend=0)

    @property
    def hash(self) -> str:
        """sha256 of the token ids, where texts end and where answers begin: equal where the same tokens run."""
        digest = hashlib.sha256()
        for numbers, kind in ((self.ids, "<i4"), (self.ends, "<i8"), (self.starts, "<i8")):
            digest.update(len(numbers).to_bytes(8, "little") + numbers.astype(kind, copy=False).tobytes())
        return digest.hexdigest()

    def encoded(self, rows: Sequence[int] | np.ndarray) -> list[Encoded]:
        """Return some texts as `encoding.pad` takes them.

        Args:
            rows: Their numbers.
        """
        lengths = self.lengths[rows]
        return [
            Encoded(tuple(self.ids[end - length : end].tolist()), int(start))
            for end, length, start in zip(self.ends[rows], lengths, self.starts[rows], strict=True)
        ]


def tokenised(model: Model, examples: Iterable[Example], chat: bool | None) -> Texts:
    """Tokenise all examples, a chunk at a time.

    Args:
        model: A TransformerLens model.
        examples: The texts.
        chat: Force or forbid the chat template; None uses it where the tokenizer has one.

    Raises:
        InputError: A text is longer than the context.
    """
    # growing arrays: chunks that are concatenated at the end would take the memory twice
    ids, ends, starts = array("i"), array("q"), array("q")
    remaining = iter(examples)
    while chunk := list(islice(remaining, TOKENISED_AT_ONCE)):
        for item in encode_one(model, chunk, chat=chat):
            ids.extend(item.ids)
            ends.append(len(ids))
            starts.append(item.start)
    return Texts(np.frombuffer(ids, np.int32), np.frombuffer(ends, np.int64), np.frombuffer(starts, np.int64))


def token_hash(model: Model, pairs: ContrastSet, *, split: str | None = "train", chat: bool | None = None) -> str:
    """Return the hash of the token ids that `collect` would run (`ActivationStats.tokens_hash`).

    Args:
        model: A TransformerLens model.
        pairs: The contrast set.
        split: The split to use; None for all rows.
        chat: See `encode_one`.
    """
    subset = pairs if split is None else pairs.split(split)
    return tokenised(model, each_example(subset.df), chat).hash


def token_budget_for(device_type: str, d_mlp: int) -> int:
    """Return the padded tokens of a batch.

    On a CPU the activations of a batch should fit in the caches: on the shape of GPT-2, 512 tokens took four fifths of the
    time of 2,048 (activation functions read and write memory several times), and smaller batches need less padding. The
    lower bound limits the overhead of a pass on small models.

    Args:
        device_type: Type of the device (`cpu`, `cuda`, ...).
        d_mlp: Neurons of a layer.
    """
    return min(max(CACHED // d_mlp, FEWEST), MOST) if device_type == "cpu" else GPU_TOKENS


def most_rows(token_budget: int) -> int:
    """Return the maximum rows of a batch.

    Args:
        token_budget: Tokens of a batch, padding included.
    """
    return min(max(token_budget // SHORT, 1), MOST_ROWS)


def packed(
    lengths: Int[np.ndarray, " n"], units: Int[np.ndarray, " n"], token_budget: int, max_rows: int
) -> list[Int[np.ndarray, " rows"]]:
    """Pack rows into batches, the longest first, so that an excess of memory shows at once.

    Args:
        lengths: Tokens of each row.
        units: Unit of each row; the rows of a unit (a pair) stay in one batch.
        token_budget: Tokens of a batch, padding included; a larger unit is a batch of its own.
        max_rows: Maximum rows of a batch; a larger unit is a batch of its own.

    Returns:
        Row numbers of each batch.
    """
    width = np.zeros(int(units.max(initial=-1)) + 1, dtype=np.int64)
    np.maximum.at(width, units, lengths)
    # by the unit's longest row, then by unit, so that the rows of a unit are neighbours
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
