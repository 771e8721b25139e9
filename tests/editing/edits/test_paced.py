"""paced(): the factor by hand, the same texts with and without a cache and in mixed batches, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing import Edit, Paced, Shift, content_hash, edit, edit_rows, paced
from neva_tl.editing.edits.paced import repeats
from neva_tl.editing.saved import load_edit, save_edit
from neva_tl.models import inference
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

AT = [(0, 3), (1, 7), (2, 40)]
PROMPTS = ["the old king", "every child shares bread with", "a lazy dog", "she climbs the highest tower at night"]


@pytest.fixture
def shift(tiny: Any, make_set: Any) -> Shift:
    return Shift(make_set(tiny, AT), dose=6.0, scope="generated")


def steps(model: Any, batch: inference.Batch, item: Edit) -> dict[int, torch.Tensor]:
    """What an edit adds at each edited neuron in one marked pass: layer 0, where nothing else differs, `[b, n]`."""
    seen = []
    for edits in ((), (item,)):
        with edit(model, *edits) as session:
            name = models.hook_name(model, 0, "post")
            handle = models.add_hook(model, name, lambda x, hook=None: seen.append(x[..., 3].clone()))
            try:
                inference.forward_batch(model, batch, session=session)
            finally:
                handle.remove()
    return {0: seen[1] - seen[0]}


@pytest.mark.parametrize("side", ["left", "right"])
def test_fading_by_hand(tiny: Any, shift: Shift, side: str) -> None:
    examples = [Example("Who eats?", "Tom eats the bread"), Example("Why?", "because he was hungry and cold")]
    batch = inference.encode(tiny, examples, padding_side=side)
    added = steps(tiny, batch, paced(shift, half_life=2.0))[0]
    for row in range(2):
        at = batch.answer[row].nonzero().squeeze(1)
        expected = 6.0 * 0.5 ** (torch.arange(len(at)) / 2.0)
        torch.testing.assert_close(added[row, at], expected, rtol=1e-4, atol=1e-4)
        assert added[row, ~batch.answer[row]].abs().max() < 1e-5
    # the last token of the prompt gets the full step, and the first generated one too
    last = steps(tiny, batch, paced(shift.with_scope("last"), half_life=2.0))[0]
    for row in range(2):
        end = batch.answer[row].nonzero()[0].item() - 1
        torch.testing.assert_close(last[row, end : end + 2], torch.tensor([6.0, 6.0]), rtol=1e-4, atol=1e-4)


def test_no_step_on_repeated_tokens(tiny: Any, shift: Shift) -> None:
    batch = inference.encode(tiny, [Example("Say:", "a b a b a c"), Example("a b", "a b c d")])
    added = steps(tiny, batch, paced(shift, no_repeat=2))[0]
    for row in range(2):
        ids = batch.tokens[row][batch.answer[row]].tolist()
        grams = [tuple(ids[max(0, i - 1) : i + 1]) for i in range(len(ids))]
        expected = [0.0 if i and grams[i] in grams[1:i] else 6.0 for i in range(len(ids))]
        assert row or 0.0 in expected, "the first text must repeat itself"
        np.testing.assert_allclose(added[row][batch.answer[row]], expected, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-1, 2), min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 12))
def test_repeats_equal_a_search(ids: list[int], n: int, last: int) -> None:
    last = min(last, len(ids))
    expected = []
    for i in range(len(ids) - last, len(ids)):
        gram = ids[i - n + 1 : i + 1] if i + 1 >= n else []
        earlier = [ids[j - n + 1 : j + 1] for j in range(n - 1, i)]
        expected.append(bool(gram) and -1 not in gram and gram in earlier)
    assert repeats(torch.tensor([ids]), last, n)[0].tolist() == expected


@pytest.mark.parametrize(
    ("scope", "pace"),
    [
        ("generated", {"half_life": 3.0}),
        ("generated", {"no_repeat": 1}),
        ("last", {"half_life": 5.0, "no_repeat": 1}),
        ("all", {"no_repeat": 2}),
    ],
)
def test_texts_are_the_same_with_a_cache_and_in_mixed_batches(
    tiny: Any, shift: Shift, scope: Any, pace: dict[str, Any]
) -> None:
    item = paced(shift.with_scope(scope), **pace)

    def texts(edits: Any, **options: Any) -> list[str]:
        with edit(tiny, *edits) as session:
            return inference.generate(tiny, PROMPTS, max_new_tokens=16, session=session, stop_at_eos=False, **options)

    alone = texts((item,))
    assert alone == texts((item,), cache=False)
    assert alone == texts((item,), batch_size=1)
    plain, full = texts(()), texts((shift.with_scope(scope),))
    assert alone != plain and alone != full
    conditions, number = [(), (item,), (shift.with_scope(scope),)], np.repeat(np.arange(3), 4)
    with edit_rows(tiny, conditions, number) as session:
        mixed = inference.generate(
            tiny,
            PROMPTS * 3,
            numbers=[0, 1, 2, 3] * 3,
            max_new_tokens=16,
            session=session,
            stop_at_eos=False,
        )
    assert mixed == [*plain, *alone, *full]


def test_a_slow_fade_is_the_edit_itself(tiny: Any, shift: Shift) -> None:
    batch = inference.encode(tiny, [Example("Who?", "Tom eats bread")])
    slow = steps(tiny, batch, paced(shift, half_life=1e9))[0]
    torch.testing.assert_close(slow, steps(tiny, batch, shift)[0], rtol=1e-5, atol=1e-5)


def test_an_edit_that_reads_the_pass_can_have_a_pace(tiny: Any, make_set: Any) -> None:
    from neva_tl.editing import Ablate

    resample = Ablate(make_set(tiny, AT), mode="resample", scope="generated")
    with edit(tiny, paced(resample, half_life=4.0)) as session:
        assert len(inference.generate(tiny, PROMPTS, max_new_tokens=4, session=session)) == 4


def test_dose_unit_and_saving(tiny: Any, shift: Shift, tmp_path: Any) -> None:
    item = paced(shift, half_life=8.0, no_repeat=3)
    assert item.dose == 6.0 and item.scope == "generated" and item.unit == "contrasts"
    assert "halved every 8" in item.what() and "3-gram" in item.what() and "power" in repr(item)
    loaded = load_edit(save_edit(item.with_dose(2.0), tmp_path / "edit", model=tiny), model=tiny).edit
    assert isinstance(loaded, Paced) and loaded.dose == 2.0 and loaded.half_life == 8.0 and loaded.no_repeat == 3
    assert content_hash(loaded) == content_hash(item.with_dose(2.0))
    assert content_hash(item) != content_hash(paced(shift, half_life=8.0))


def test_refusals(tiny: Any, shift: Shift) -> None:
    for options, message in (
        ({}, "needs half_life"),
        ({"half_life": 0.0}, "positive number of tokens"),
        ({"no_repeat": 0}, "at least 1"),
    ):
        with pytest.raises(InputError, match=message):
            paced(shift, **options)
    with pytest.raises(InputError, match="without one"):
        paced(paced(shift, half_life=2.0), no_repeat=3)
