"""edit(): scopes, padding, caches, hooks that go away, and hooks that fire wrongly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neva_tl import models
from neva_tl.core.errors import WorkError
from neva_tl.editing import SCOPES, Ablate, Change, EditSession, Shift, edit, edit_rows, touched_tokens
from neva_tl.models import inference
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

AT = [(0, 3), (1, 7), (2, 40)]
EXAMPLES = [Example("Who eats the bread?", "Tom eats it"), Example("Why?", "because he was hungry and cold")]


@pytest.fixture
def shift(tiny: Any, make_set: Any) -> Shift:
    return Shift(make_set(tiny, AT), dose=2.0)


def post(model: Any, layer: int, run: Any) -> list[Tensor]:
    """Activations at `hook_post` of every forward pass that `run` makes (the hook sees what edits left)."""
    seen: list[Tensor] = []
    handle = models.add_hook(model, models.hook_name(model, layer, "post"), lambda x, hook=None: seen.append(x.clone()))
    try:
        run()
    finally:
        handle.remove()
    return seen


def changed(model: Any, batch: inference.Batch, item: Shift) -> Tensor:
    """Which tokens of a marked forward pass are changed at the first edited layer, `[b, n]`."""

    def run(*edits: Any) -> Tensor:
        with edit(model, *edits) as session:
            return post(model, 0, lambda: inference.forward_batch(model, batch, session=session))[0][..., 3]

    return (run(item) - run()).abs() > 1e-3


@pytest.mark.parametrize("side", ["left", "right"])
def test_scopes_of_a_marked_forward(tiny: Any, shift: Shift, side: str) -> None:
    batch = inference.encode(tiny, EXAMPLES, padding_side=side)
    assert not batch.mask.all(), "the rows must differ in length"
    real = batch.mask
    prompt = real & ~batch.answer
    assert (changed(tiny, batch, shift.with_scope("all")) & real).equal(real)
    assert changed(tiny, batch, shift.with_scope("generated")).equal(batch.answer)
    assert changed(tiny, batch, shift.with_scope("prompt")).equal(prompt)
    want = batch.answer.clone()
    for row in range(len(batch)):
        want[row, prompt[row].nonzero().max()] = True
    assert changed(tiny, batch, shift.with_scope("last")).equal(want)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_padded_batch_equals_single_texts(tiny: Any, shift: Shift, scope: Any) -> None:
    item = shift.with_scope(scope)
    with edit(tiny, item) as session:
        together, _ = inference.answer_logprobs(tiny, EXAMPLES, session=session)
        alone = [inference.answer_logprobs(tiny, [e], session=session)[0][0] for e in EXAMPLES]
        left = inference.encode(tiny, EXAMPLES, padding_side="left")
        logits = inference.forward_batch(tiny, left, session=session)
    assert logits is not None
    scored = torch.log_softmax(logits[:, :-1], -1).gather(2, left.tokens[:, 1:, None])[..., 0] * left.answer[:, 1:]
    torch.testing.assert_close(torch.tensor(together), torch.tensor(alone), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(scored.sum(1).double(), torch.tensor(alone), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("family", ["tiny", "tiny_gpt2"])
def test_generation_with_cache_equals_without(request: Any, make_set: Any, scope: Any, family: str) -> None:
    model = request.getfixturevalue(family)
    item = Shift(make_set(model, AT), dose=3.0, scope=scope)
    prompts = ["Who eats the bread?", "Why", "The old king counts his coins and"]
    with edit(model, item) as session:
        how = {"max_new_tokens": 4, "session": session, "temperature": 1.0, "stop_at_eos": False}
        cached = inference.generate(model, prompts, **how)
        assert inference.generate(model, prompts, cache=False, **how) == cached
        assert inference.generate(model, prompts, batch_size=1, **how) == cached
    unedited = inference.generate(model, prompts, max_new_tokens=4, temperature=1.0, stop_at_eos=False)
    assert unedited != cached


def test_generation_with_cache_equals_without_on_a_trained_model(stories3m: Any, make_set: Any) -> None:
    at = [(layer, k) for layer in (2, 3) for k in range(0, 512, 16)]
    for scope in ("all", "last"):
        with edit(stories3m, Shift(make_set(stories3m, at), dose=1.0, scope=scope)) as session:  # type: ignore[arg-type]
            how = {"max_new_tokens": 5, "session": session}
            prompts = ["Once upon a time", "The dog"]
            cached = inference.generate(stories3m, prompts, **how)
            assert inference.generate(stories3m, prompts, cache=False, **how) == cached


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("cache", [True, False])
def test_scopes_in_the_users_own_generate(tiny: Any, shift: Shift, scope: Any, cache: bool) -> None:
    """Without marks: the first forward is the prompt, what follows is generated; twice, so that state does not stick."""
    tokens = torch.tensor([[0, 70, 80, 90, 75]])
    how = {"max_new_tokens": 3, "do_sample": False, "use_past_kv_cache": cache, "verbose": False, "stop_at_eos": False}
    for prompt in (tokens, tokens[:, :2]):
        n = prompt.shape[1]
        with edit(tiny, shift.with_scope(scope), record=True) as session:
            tiny.generate(prompt, **how)
        for step, touched in enumerate(session.touched[:3]):
            width = n + step if not cache else (n if step == 0 else 1)
            generated = torch.arange(width) >= (n if not cache or step == 0 else 0)
            want = {
                "all": torch.ones(width, dtype=torch.bool),
                "prompt": ~generated,
                "generated": generated,
                "last": generated | (torch.arange(width) == (n - 1 if not cache or step == 0 else -1)),
            }[scope]
            assert touched[0].equal(want), (step, touched)


def test_two_plain_forwards_are_two_prompts(tiny: Any, shift: Shift) -> None:
    """The second is one token longer and another text, or of another batch: not a continuation of the first."""
    runs = [[[0, 70, 80]], [[0, 71, 81, 91]], [[0, 70, 80, 60, 61], [0, 71, 81, 60, 61]], [[0, 71, 81, 91]]]
    with edit(tiny, shift.with_scope("generated"), record=True) as session, torch.no_grad():
        for ids in runs:
            tiny(torch.tensor(ids))
    assert not any(touched.any() for touched in session.touched)


def test_a_users_plain_forward_is_edited(tiny: Any, shift: Shift) -> None:
    tokens = torch.tensor([[0, 70, 80, 90]])
    with torch.no_grad():
        plain = tiny(tokens)
        with edit(tiny, shift):
            edited = tiny(tokens)
        after = tiny(tokens)
    assert not torch.allclose(plain, edited, atol=1e-3)
    assert torch.equal(plain, after)


def test_touched_tokens_is_exact(tiny: Any, shift: Shift) -> None:
    prompt, answer = "Who eats the bread?", "Tom eats it"
    ids = inference.encode_one(tiny, [Example(prompt, answer)])[0]
    for scope in SCOPES:
        table = touched_tokens(tiny, shift.with_scope(scope), prompt, answer)
        assert list(table.columns) == ["position", "token", "part", "touched"]
        assert table["position"].tolist() == list(range(len(ids.ids)))
        assert table["part"].tolist() == ["prompt"] * ids.start + ["generated"] * (len(ids.ids) - ids.start)
        assert "".join(table["token"]).endswith(f"{prompt} {answer}")
        answer_text = "".join(table.loc[table["part"] == "generated", "token"]).strip()
        assert answer_text == answer
        at, start = table["position"], ids.start
        want = {"all": at >= 0, "prompt": at < start, "generated": at >= start, "last": at >= start - 1}[scope]
        assert table["touched"].tolist() == want.tolist(), scope


def test_hooks_go_away_and_the_first_error_is_the_one_seen(tiny: Any, shift: Shift, count_hooks: Any) -> None:
    before = count_hooks(tiny)
    with edit(tiny, shift):
        assert count_hooks(tiny) == before + 4  # three layers, and the start of a forward pass
    assert count_hooks(tiny) == before
    with pytest.raises(KeyError, match="mine"), edit(tiny, shift):
        raise KeyError("mine")
    assert count_hooks(tiny) == before
    with pytest.raises(KeyboardInterrupt), edit(tiny, shift):
        raise KeyboardInterrupt
    assert count_hooks(tiny) == before


def test_an_edit_that_breaks_inside_the_forward_is_removed(tiny: Any, make_set: Any, count_hooks: Any) -> None:
    class Broken(Shift):
        def new_values(self, h: Any, rows: Any) -> Any:
            raise ZeroDivisionError("inside the hook")

    before = count_hooks(tiny)
    with pytest.raises(ZeroDivisionError, match="inside the hook"), edit(tiny, Broken(make_set(tiny, AT))):
        tiny(torch.tensor([[0, 70]]))
    assert count_hooks(tiny) == before


def test_edits_survive_reset_hooks_and_nest(tiny: Any, shift: Shift, count_hooks: Any) -> None:
    before, tokens = count_hooks(tiny), torch.tensor([[0, 70, 80]])
    with torch.no_grad(), edit(tiny, shift):
        once = tiny(tokens)
        tiny.reset_hooks()
        assert torch.equal(tiny(tokens), once)
        with edit(tiny, shift):
            twice = tiny(tokens)
        assert torch.equal(tiny(tokens), once)
    with torch.no_grad(), edit(tiny, shift.with_dose(4.0)):
        torch.testing.assert_close(tiny(tokens), twice, atol=1e-4, rtol=1e-4)
    assert count_hooks(tiny) == before


def test_cached_clean_activations_are_not_corrupted(tiny: Any, make_set: Any) -> None:
    """A cache filled before the edit's hook runs keeps the unedited values: edits are out of place."""
    tokens = torch.tensor([[0, 70, 80, 90]])
    name = models.hook_name(tiny, 1, "post")
    held: list[Tensor] = []
    with torch.no_grad():
        _, fresh = tiny.run_with_cache(tokens, names_filter=lambda n: n == name)
        keep = models.add_hook(tiny, name, lambda x, hook=None: held.append(x))  # holds the tensor itself, no copy
        with edit(tiny, Ablate(make_set(tiny, [(1, 7)]))):
            tiny(tokens)
        keep.remove()
        _, again = tiny.run_with_cache(tokens, names_filter=lambda n: n == name)
    torch.testing.assert_close(held[0], fresh[name])
    torch.testing.assert_close(again[name], fresh[name])
    assert float(fresh[name][..., 7].abs().max()) > 0


# ---------------------------------------------------------------- hook points that misbehave


def started(width: int = 4) -> EditSession:
    session = EditSession(edits=())
    begin(session, torch.zeros(1, 2, width))
    return session


def begin(session: EditSession, x: Tensor) -> None:
    """Start a pass over prompt tokens."""
    session.mark(torch.zeros(x.shape[:2], dtype=torch.bool), torch.ones(x.shape[:2], dtype=torch.bool))
    session.begin(x)


def test_a_hook_that_fires_twice_is_refused() -> None:
    session, change = started(), Change(0, "post", lambda x: x + 1)
    x = torch.zeros(1, 2, 4)
    assert session.applied((0, 0), change, "all", x, 4).equal(x + 1)
    with pytest.raises(WorkError, match="fired twice"):
        session.applied((0, 0), change, "all", x, 4)
    begin(session, torch.ones(1, 2, 4))
    assert session.applied((0, 0), change, "all", x, 4).equal(x + 1)


def test_wrong_width_wrong_shape_and_silence_are_refused() -> None:
    x = torch.zeros(1, 2, 4)
    with pytest.raises(WorkError, match="expected"):
        started().applied((0, 0), Change(0, "post", lambda t: t), "all", x, 8)
    with pytest.raises(WorkError, match="changed the shape"):
        started().applied((0, 0), Change(0, "post", lambda t: t[..., :1]), "all", x, 4)
    with pytest.raises(WorkError, match="outside a forward pass"):
        EditSession(edits=()).applied((0, 0), Change(0, "post", lambda t: t), "all", x, 4)
    with pytest.raises(WorkError, match="never fired"):
        started().finish({(0, 0)})
    session = EditSession(edits=())
    session.mark(torch.zeros(1, 3, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(WorkError, match="marked as"):
        session.begin(x)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("scope", SCOPES)
def test_conditions_side_by_side_write_what_each_writes_alone(tiny: Any, shift: Shift, scope: Any, cache: bool) -> None:
    """One batch of four conditions (one of them empty, one of two edits), rows of unequal length, texts that end early."""
    other = Ablate(shift.neurons, scope=scope)
    conditions = [(shift.with_scope(scope),), (), (other,), (other, shift.with_scope(scope).with_dose(-3.0))]
    prompts = ["Who eats the bread today", "Tom", "Why is it"]
    alone = []
    for edits in conditions:
        with edit(tiny, *edits) as session:
            alone += inference.generate(
                tiny, prompts, max_new_tokens=10, temperature=1.0, seed=3, session=session, cache=cache
            )
    with edit_rows(tiny, conditions, np.arange(4).repeat(3)) as session:
        together = inference.generate(
            tiny,
            prompts * 4,
            numbers=[0, 1, 2] * 4,
            max_new_tokens=10,
            temperature=1.0,
            seed=3,
            session=session,
            cache=cache,
            batch_size=7,
        )
    assert together == alone
    assert len(set(alone)) > len(prompts), "the conditions must differ"


def test_conditions_side_by_side_need_to_know_whose_row_is_whose(tiny: Any, shift: Shift) -> None:
    with (
        pytest.raises(WorkError, match="which row belongs to which"),
        edit_rows(tiny, [(shift,), ()], np.array([0, 1])) as session,
    ):
        inference.forward_batch(tiny, inference.encode(tiny, EXAMPLES), session=session)
