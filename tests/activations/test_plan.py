"""Packing against its own promises: every row once, pairs whole, the budget kept, little padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl import models
from neva_tl.activations.plan import most_rows, packed, tokenised
from neva_tl.models.inference.encoding import encode_one, pad
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 30)), min_size=1, max_size=80),
    st.integers(1, 200),
    st.integers(1, 20),
)
def test_every_row_once_pairs_whole_budget_kept(rows: list[tuple[int, int]], budget: int, most: int) -> None:
    lengths, units = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    batches = packed(lengths, units, budget, most)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(rows)))
    home = {int(unit): number for number, batch in enumerate(batches) for unit in units[batch]}
    for number, batch in enumerate(batches):
        assert all(home[int(unit)] == number for unit in units[batch])
        if len(set(units[batch].tolist())) > 1:
            assert len(batch) <= most and len(batch) * lengths[batch].max() <= budget
    tops = [int(max(lengths[units == unit].max() for unit in units[batch])) for batch in batches]
    assert tops == sorted(tops, reverse=True)


def test_padding_is_rare_on_ragged_text() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(8, 200, size=3000)
    batches = packed(lengths, np.arange(3000), 2048, 256)
    padded = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    assert lengths.sum() / padded > 0.98


def test_short_texts_do_not_make_batches_of_more_rows() -> None:
    # pooled vectors weigh the same however short a text is: what waits in memory is bounded by the budget
    few, many = (
        max(map(len, packed(np.full(2000, length), np.arange(2000), 512, most_rows(512)))) for length in (16, 2)
    )
    assert few == many == 32
    assert most_rows(3) == 1 and most_rows(10**6) == 256


def test_flat_ids_are_what_encoding_gives(tmp_path: Any) -> None:
    model = models.load(tiny_checkpoint(tmp_path / "m"))
    examples = [Example("What now?", f"Nothing, said number {i}.") for i in range(5)] + [Example("", "Alone.")]
    texts = tokenised(model, examples, None)
    plain = encode_one(model, examples)
    assert texts.encoded([5, 0, 3]) == [plain[5], plain[0], plain[3]]
    assert texts.lengths.tolist() == [len(item.ids) for item in plain]
    assert (pad(model, texts.encoded([1, 2])).tokens == pad(model, plain[1:3]).tokens).all()
