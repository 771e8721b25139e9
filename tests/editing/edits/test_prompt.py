"""Edits and gates that read the prompt: what is held, for whom, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neva_tl import models
from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing import LayerProbe, PromptShift, RelevanceGate, Shift, edit, edit_rows, touched_tokens
from neva_tl.models import inference
from neva_tl.models.inference import Prefill, PrefixCache, generation
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

PROMPTS = ["Who eats the bread today", "Tom", "Why is it"]
AT = [(0, 3), (1, 7), (2, 40)]
HOW: dict[str, Any] = {"max_new_tokens": 6, "temperature": 1.0, "seed": 3, "stop_at_eos": False}


def probe(layer: int, seed: int = 0, width: int = 32) -> LayerProbe:
    weight = np.random.default_rng(seed).normal(size=width)
    return LayerProbe(layer, np.arange(width), weight, -1.0, weight / (weight @ weight))


@pytest.fixture
def item() -> PromptShift:
    return PromptShift((probe(0, 1), probe(1, 2), probe(2, 3)), dose=9.0)


@pytest.fixture
def query(tiny: Any) -> RelevanceGate:
    """A gate that opens some prompts and shuts others, by the first neuron of each layer."""
    weight = np.zeros((3, 48), dtype=np.float32)
    weight[:, 0] = 1.0
    seen: list[Tensor] = []
    handle = models.add_hook(tiny, models.hook_name(tiny, 0, "post"), lambda x, hook=None: seen.append(x[0, -1, 0]))
    for text in PROMPTS:
        inference.forward_batch(tiny, inference.encode(tiny, [Example(text, "")]))
    handle.remove()
    middle = float(torch.stack(seen).sort().values[1])
    return RelevanceGate((0, 1, 2), weight, np.full(3, -middle + 1e-4), np.ones(3), np.ones(3)).per_query()


def write(tiny: Any, *edits: Any, prompts: list[str] = PROMPTS, **how: Any) -> list[str]:
    with edit(tiny, *edits) as session:
        return inference.generate(tiny, prompts, session=session, **HOW, **how)


@pytest.mark.parametrize("scope", ["all", "prompt", "generated", "last"])
def test_batches_caches_and_single_texts_agree(tiny: Any, item: PromptShift, scope: Any) -> None:
    edited = item.with_scope(scope)
    together = write(tiny, edited)
    assert together != write(tiny)
    assert write(tiny, edited, cache=False) == together
    assert [write(tiny, edited, prompts=[p], numbers=[i])[0] for i, p in enumerate(PROMPTS)] == together


def test_rows_that_end_early_take_their_needs_along(
    tiny: Any, item: PromptShift, query: RelevanceGate, make_set: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts of unlike length in one batch: rows are dropped half-way, and what is held must move with them."""
    # every fourth token ends a text
    monkeypatch.setattr(generation, "stop_ids", lambda model: frozenset(range(0, models.info(model).d_vocab, 4)))
    how: dict[str, Any] = {"max_new_tokens": 16, "temperature": 1.0, "seed": 5}
    prompts = [f"{word} eats the bread" for word in ("Tom", "Who", "The king", "A child", "It", "He", "She", "We")]
    shift = Shift(make_set(tiny, AT), dose=3.0, scope="generated", gate=query)
    dropped: list[int] = []
    for edits in (item.with_scope("generated"), shift):
        with edit(tiny, edits) as session:
            keep_rows = session.keep_rows
            monkeypatch.setattr(
                session, "keep_rows", lambda index, go=keep_rows: (dropped.append(len(index)), go(index))
            )
            together = inference.generate(tiny, prompts, session=session, **how)
            alone = [
                inference.generate(tiny, [p], numbers=[i], session=session, **how)[0] for i, p in enumerate(prompts)
            ]
        assert together == alone
        assert dropped and dropped[0] > 0
        dropped.clear()


def test_conditions_side_by_side(tiny: Any, item: PromptShift, query: RelevanceGate, make_set: Any) -> None:
    shift = Shift(make_set(tiny, AT), dose=3.0, gate=query)
    conditions = [(item,), (), (shift,), (item.with_dose(2.0).with_scope("generated"), shift)]
    alone = [text for edits in conditions for text in write(tiny, *edits)]
    with edit_rows(tiny, conditions, np.arange(4).repeat(3)) as session:
        together = inference.generate(tiny, PROMPTS * 4, numbers=[0, 1, 2] * 4, session=session, batch_size=7, **HOW)
    assert together == alone and len(set(alone)) > 6


def test_a_query_gate_opens_or_shuts_whole_texts(tiny: Any, query: RelevanceGate, make_set: Any) -> None:
    shift = Shift(make_set(tiny, [(0, 3)]), dose=4.0)
    opened = []
    for number, prompt in enumerate(PROMPTS):
        with edit(tiny, shift.with_gate(query), record=True) as session:
            inference.generate(tiny, [prompt], session=session, **HOW)
        assert all(step.all() or not step.any() for step in session.touched), "every token of a text, or none"
        opened.append(bool(session.touched[0].all()))
        assert all(bool(step.all()) == opened[-1] for step in session.touched)
        want = write(tiny, *([shift] if opened[-1] else []), prompts=[prompt], numbers=[number])
        assert write(tiny, shift.with_gate(query), prompts=[prompt], numbers=[number]) == want
    assert len(set(opened)) == 2, "the gate must tell the prompts apart"
    assert write(tiny, shift.with_gate(query)) == write(tiny, shift.with_gate(query), cache=False)
    table = touched_tokens(tiny, shift.with_gate(query), PROMPTS[opened.index(True)], "because")
    assert table["touched"].all()


def test_what_skips_the_prompt_is_not_used(tiny: Any, item: PromptShift, query: RelevanceGate, make_set: Any) -> None:
    """Prefilled prompts and prefix caches would hide the prompt from an edit that is worked out there."""
    for edits in (item.with_scope("generated"), Shift(make_set(tiny, AT), dose=3.0, scope="generated", gate=query)):
        examples = [Example(p, "because he was hungry") for p in PROMPTS]
        prefix, prefill = PrefixCache(tiny, examples), Prefill()
        want_text = write(tiny, edits)
        inference.generate(tiny, PROMPTS, prefill=prefill, **HOW)
        with edit(tiny, edits) as session:
            assert not prefix.exact_for(tiny, session) and not prefill.fits(session)
            plain, _ = inference.answer_logprobs(tiny, examples, session=session)
            cached, _ = inference.answer_logprobs(tiny, examples, session=session, prefix=prefix)
            text = inference.generate(tiny, PROMPTS, session=session, prefill=prefill, **HOW)
        np.testing.assert_allclose(cached, plain, atol=1e-5)
        assert text == want_text


def test_a_text_without_prompt_is_measured_at_its_first_token(tiny_gpt2: Any, item: PromptShift) -> None:
    """No BOS, no prompt: the first token stands for the prompt's end; the same in a padded batch and alone."""
    texts = ["Tom eats the bread of the old king", "He runs"]
    width = models.info(tiny_gpt2).d_model
    edited = PromptShift((probe(1, 2, width),), dose=30.0)
    with edit(tiny_gpt2, edited) as session:
        together = inference.neutral_logprobs(tiny_gpt2, texts, session=session)
        alone = [inference.neutral_logprobs(tiny_gpt2, [t], session=session)[0] for t in texts]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert not np.allclose(together[0], inference.neutral_logprobs(tiny_gpt2, texts)[0], atol=1e-3)


def test_need_is_met_or_nothing_happens(tiny: Any) -> None:
    """One layer, all tokens: the prompt's last token ends at the dose exactly; one that is there already is left alone."""
    one = probe(2, 3)
    batch = inference.encode(tiny, [Example(p, "because") for p in PROMPTS])
    end = (batch.mask & ~batch.answer).sum(dim=1) - 1

    def stream(*edits: Any) -> Tensor:
        seen: list[Tensor] = []
        with edit(tiny, *edits) as session:
            name = models.hook_name(tiny, 2, "resid_post")
            handle = models.add_hook(tiny, name, lambda x, hook=None: seen.append(x.clone()))
            inference.forward_batch(tiny, batch, session=session)
            handle.remove()
        return seen[0]

    plain = stream()
    row = torch.arange(3)
    before = plain[row, end].double() @ torch.as_tensor(one.weight) + one.bias
    ordered = before.sort().values
    for dose in (float(ordered[:2].mean()), float(ordered[1:].mean())):
        after = stream(PromptShift((one,), dose=dose))
        odds = after[row, end].double() @ torch.as_tensor(one.weight) + one.bias
        torch.testing.assert_close(
            odds, before.clamp(min=dose) if dose >= 0 else before.clamp(max=dose), atol=1e-4, rtol=1e-4
        )
        satisfied = before >= dose if dose >= 0 else before <= dose
        assert satisfied.any() and torch.equal(after[satisfied], plain[satisfied])
        # the same step at every token of a text
        step = (after - plain)[batch.mask.unsqueeze(-1).expand_as(after)].reshape(-1, 32)
        assert (step.norm(dim=1) > 0).any()
        for r in row:
            own = (after - plain)[r][batch.mask[r]]
            torch.testing.assert_close(own, own[:1].expand_as(own), atol=1e-5, rtol=1e-4)


def test_refusals(tiny: Any, item: PromptShift, query: RelevanceGate) -> None:
    for bad in (0.0, 1.0, 2.0, float("nan")):
        with pytest.raises(InputError, match="inside"):
            item.at(bad)
    with pytest.raises(InputError, match="no layer has a probe"):
        PromptShift(())
    with pytest.raises(InputError, match="does not fit"):
        replace(item, probes=(probe(7),)).changes(tiny)
    with pytest.raises(InputError, match="width 16"):
        replace(item, probes=(probe(1, width=16),)).changes(tiny)
    # without beartype (users have none) the dataclass itself must say no
    with pytest.raises(Exception, match="sometimes"):
        replace(query, unit="sometimes")  # type: ignore[arg-type]
    with edit(tiny, item) as session, pytest.raises(WorkError, match="outside a forward pass"):
        session.applied((0, 0), item.changes(tiny)[0], "all", torch.zeros(1, 1, 32), 32)


def test_a_query_gate_is_saved_as_one(query: RelevanceGate, tmp_path: Path) -> None:
    again = RelevanceGate.load(query.save(tmp_path / "gate.safetensors"))
    assert again.unit == "query" and replace(query, unit="token").unit == "token"
    token = replace(query, unit="token")
    assert RelevanceGate.load(token.save(tmp_path / "token.safetensors")).unit == "token"


@pytest.mark.parametrize("budget", [4096, 12])
def test_a_prefix_cache_made_under_the_block_holds_what_was_found_at_its_prompts(
    tiny: Any, item: PromptShift, query: RelevanceGate, make_set: Any, budget: int
) -> None:
    """Answers of one token and of several, more of them than prompts and in another order: as in whole texts."""
    answers = ["because he was hungry", "bread", "it eats the old king of the bread today"]
    examples = [Example(p, f" {a}") for a in answers for p in reversed(PROMPTS)]
    shift = Shift(make_set(tiny, AT), dose=3.0, scope="generated", gate=query)
    unedited, _ = inference.answer_logprobs(tiny, examples)
    for edits in ((item,), (item.with_scope("generated"),), (shift,), (shift.with_scope("all"), item)):
        with edit(tiny, *edits) as session:
            whole, _ = inference.answer_logprobs(tiny, examples, session=session)
            cache = PrefixCache(tiny, examples, session=session, token_budget=budget)
            assert cache.n_prefixes == len(PROMPTS)
            shared, _ = inference.answer_logprobs(tiny, examples, session=session, prefix=cache, token_budget=budget)
        np.testing.assert_allclose(shared, whole, atol=2e-4)
        assert np.abs(whole - unedited).max() > 0.01
