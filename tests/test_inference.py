"""Tokens and answer masks, log-probabilities, generation, prefix cache; oracles: character offsets, plain transformers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing import AddVector, edit
from neva_tl.models import inference
from neva_tl.models.inference.sampling import pick, uniforms
from neva_tl.models.tiny import tiny_checkpoint, tiny_tokenizer
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

EXAMPLES = (
    Example("Should Dana help her aunt?", "Yes, she should."),
    Example("Should Dana help her aunt?", "No."),
    Example("The old king", "counts his golden coins while the villagers share their bread."),
    Example("", "every child shares bread with strangers"),
    Example("Naïve café — 東京?", "日本 is far away, isn't it?"),
)
PROMPTS = ("Once upon a time", "The dog", "Lily and Tom went to the park because", "Why?")


@dataclass
class Recorder:
    """A session that edits nothing and remembers what it was told."""

    active_scopes: frozenset[str] = frozenset({"generated"})
    marks: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    rows: int = 0

    def mark(self, generated: torch.Tensor, mask: torch.Tensor) -> None:
        self.marks.append((generated, mask))
        self.rows = len(mask)

    def mark_new(self) -> None:
        new = torch.ones(self.rows, 1, dtype=torch.bool)
        self.mark(new, new)

    def set_rows(self, prompts: Sequence[int]) -> None:
        self.rows = len(prompts)

    def keep_rows(self, index: torch.Tensor) -> None:
        assert len(index) < self.rows
        self.rows = len(index)

    def prompt_state(self) -> dict[Any, dict[str, torch.Tensor]]:
        return {}

    def resume_from(self, state: dict[Any, dict[str, torch.Tensor]], index: torch.Tensor) -> None:
        assert not state


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {
        "llama": tiny_checkpoint(root / "llama", "llama"),
        "gpt2": tiny_checkpoint(root / "gpt2", "gpt2"),
        "chat": tiny_checkpoint(root / "chat", "llama", chat=True),
    }


@pytest.fixture(scope="module")
def zoo(folders: dict[str, Path]) -> dict[str, Any]:
    return {name: models.load(folder) for name, folder in folders.items()}


@pytest.fixture(params=["llama", "gpt2", "chat"])
def model(request: pytest.FixtureRequest, zoo: dict[str, Any]) -> Any:
    return zoo[request.param]


# ---------------------------------------------------------------- encoding


@pytest.mark.parametrize("side", ["left", "right"])
def test_answer_tokens_are_the_answer(model: Any, side: str) -> None:
    """Decoding the marked tokens gives the answer, decoding the rest the prompt; nothing else is marked."""
    text = models.tokenizer(model)
    batch = inference.encode(model, EXAMPLES, padding_side=side)
    assert not (batch.answer & ~batch.mask).any()
    for row, example in enumerate(EXAMPLES):
        answer = text.decode(batch.tokens[row][batch.answer[row]])
        assert answer.strip() == example.answer
        prompt = text.decode(batch.tokens[row][batch.mask[row] & ~batch.answer[row]], skip_special_tokens=True)
        assert (example.prompt or inference.NEUTRAL_TURN * models.info(model).chat) in prompt
        assert example.answer not in prompt
        assert not (batch.tokens[row][batch.answer[row]] == text.bos_token_id).any()


def test_bos_once_and_by_convention(zoo: dict[str, Any]) -> None:
    for name, model in zoo.items():
        bos = models.tokenizer(model).bos_token_id
        for chat in (False, True) if name == "chat" else (False,):
            for item in inference.encode_one(model, EXAMPLES, chat=chat):
                assert item.ids[0] == bos and item.ids.count(bos) == 1, name
                assert item.start >= 1


def test_chat_template_is_the_default_where_there_is_one(zoo: dict[str, Any]) -> None:
    text = models.tokenizer(zoo["chat"])
    (item,) = inference.encode_one(zoo["chat"], [Example("Hello?", "Hi.")])
    assert text.decode(item.ids) == "<s><user>Hello?</s><assistant>Hi."
    (plain,) = inference.encode_one(zoo["chat"], [Example("Hello?", "Hi.")], chat=False)
    assert text.decode(plain.ids) == "<s>Hello? Hi."
    with pytest.raises(InputError, match="no chat template"):
        inference.encode_one(zoo["llama"], [Example("Hello?", "Hi.")], chat=True)


def test_stories_tokens(stories3m: Any) -> None:
    """A sentencepiece-like tokenizer: the answer starts at the token that holds its first letter."""
    text = models.tokenizer(stories3m)
    (item,) = inference.encode_one(stories3m, [Example("Once upon a time", "there was a cat.")])
    assert list(item.ids) == text("Once upon a time there was a cat.")["input_ids"]
    assert text.decode(item.ids[item.start :]).strip() == "there was a cat."


@settings(max_examples=40, deadline=None)
@given(
    prompt=st.text(alphabet="abc ,.é東", max_size=20).map(str.strip),
    answer=st.text(alphabet="abc ,.é東", min_size=1, max_size=20).map(str.strip).filter(bool),
)
def test_any_text_keeps_its_answer(zoo: dict[str, Any], prompt: str, answer: str) -> None:
    text = models.tokenizer(zoo["llama"])
    (item,) = inference.encode_one(zoo["llama"], [Example(prompt, answer)])
    assert text.decode(item.ids, skip_special_tokens=True) == (f"{prompt} {answer}" if prompt else answer)
    assert text.decode(item.ids[item.start :]).strip() == answer


def test_too_long_is_named(model: Any) -> None:
    long = Example("short", "word " * 200)
    with pytest.raises(InputError, match=r"example 1 \('short'.*context of .* is 128 tokens"):
        inference.encode(model, [EXAMPLES[0], long])
    with pytest.raises(InputError, match="context"):
        inference.generate(model, ["Hello"], max_new_tokens=128)


def test_wrong_arguments(model: Any) -> None:
    with pytest.raises(InputError, match="no examples"):
        inference.encode(model, [])
    with pytest.raises(InputError, match="padding_side"):
        inference.encode(model, EXAMPLES, padding_side="top")
    with pytest.raises(InputError, match="list of prompts"):
        inference.generate(model, "Hello")
    with pytest.raises(InputError, match="temperature"):
        inference.generate(model, ["Hello"], temperature=-1.0)
    with pytest.raises(InputError, match="no answer token"):
        inference.answer_logprobs(model, [Example("Hello", "")])


def test_batches_cover_all_within_the_budget(model: Any) -> None:
    seen: list[int] = []
    for rows, batch in inference.batches(model, EXAMPLES * 7, token_budget=200):
        assert batch.tokens.numel() <= 200 or len(batch) == 1
        seen.extend(rows.tolist())
        for place, row in enumerate(rows):
            (item,) = inference.encode_one(model, [(EXAMPLES * 7)[row]])
            assert batch.tokens[place][batch.mask[place]].tolist() == list(item.ids)
    assert sorted(seen) == list(range(35))


# ---------------------------------------------------------------- log-probabilities


def by_hand(folder: Path, model: Any, examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
    """Sum over answer tokens with plain transformers, one example at a time, no padding."""
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    sums, counts = [], []
    for item in inference.encode_one(model, examples):
        with torch.no_grad():
            logprobs = hf(torch.tensor([item.ids])).logits[0].log_softmax(-1)
        sums.append(sum(float(logprobs[t - 1, item.ids[t]]) for t in range(item.start, len(item.ids))))
        counts.append(len(item.ids) - item.start)
    return np.array(sums), np.array(counts)


@pytest.mark.parametrize("name", ["llama", "gpt2", "chat"])
def test_answer_logprobs(zoo: dict[str, Any], folders: dict[str, Path], name: str) -> None:
    want, counts = by_hand(folders[name], zoo[name], EXAMPLES)
    for budget in (1, 90, 4096):
        got, n = inference.answer_logprobs(zoo[name], EXAMPLES, token_budget=budget)
        assert np.allclose(got, want, atol=1e-3) and (n == counts).all()


def test_sessions_are_told_the_answer(zoo: dict[str, Any]) -> None:
    session = Recorder()
    inference.answer_logprobs(zoo["chat"], EXAMPLES, session=session)
    batch = inference.encode(zoo["chat"], EXAMPLES)
    (generated, mask) = session.marks[0]
    assert generated.sum() == batch.answer.sum() and mask.sum() == batch.mask.sum()


def test_neutral_text(zoo: dict[str, Any], folders: dict[str, Path]) -> None:
    """Every token counts, no chat template; the first after BOS included."""
    texts = ["the quick brown fox", "a", "every child shares bread with strangers and the dog"]
    session = Recorder()
    got = inference.neutral_logprobs(zoo["chat"], texts, session=session)
    for text, values in zip(texts, got, strict=True):
        sums, counts = by_hand(folders["llama"], zoo["llama"], [Example("", text)])
        assert len(values) == counts[0] and np.isclose(values.sum(), sums[0], atol=1e-3)
    assert all((g | ~m).sum() >= m.sum() - len(texts) for g, m in session.marks)


def test_kl(zoo: dict[str, Any]) -> None:
    """Zero without an edit; equal to the sum over the vocabulary by hand with one."""
    model, texts = zoo["llama"], ["the quick brown fox", "every child shares bread"]

    @contextmanager
    def nothing() -> Any:
        yield None

    @contextmanager
    def ablation() -> Any:
        handle = models.add_hook(model, models.hook_name(model, 1, "post"), lambda x, hook=None: x * 0)
        try:
            yield None
        finally:
            handle.remove()

    assert all(np.allclose(values, 0, atol=1e-6) for values in inference.token_kl(model, texts, nothing))
    got = inference.token_kl(model, texts, ablation)
    for text, values in zip(texts, got, strict=True):
        batch = inference.encode(model, [Example("", text)])
        plain = inference.forward_batch(model, batch)
        with ablation():
            edited = inference.forward_batch(model, batch)
        assert plain is not None and edited is not None
        p, q = plain[0, :-1].log_softmax(-1), edited[0, :-1].log_softmax(-1)
        assert np.allclose(values, (p.exp() * (p - q)).sum(-1).numpy(), atol=1e-4)
        assert (values > 0).all()


# ---------------------------------------------------------------- prefix cache


@contextmanager
def edit_marked(model: Any, session: Recorder) -> Any:
    """A strong edit of the marked tokens alone, written without the editing module."""

    def shift(x: torch.Tensor, hook: Any = None) -> torch.Tensor:
        generated, _ = session.marks[-1]
        return x + 0.5 * generated[..., None].to(x.dtype)

    handles = [models.add_hook(model, models.hook_name(model, layer, "post"), shift) for layer in (0, 2)]
    try:
        yield session
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("edited", [False, True])
def test_prefix_cache_equals_the_plain_way(model: Any, edited: bool) -> None:
    examples = [Example(f"{e.prompt} {w}", e.answer) for e in EXAMPLES for w in ("Now?", "And then again?")] * 2
    cache = inference.PrefixCache(model, examples, token_budget=150)
    assert cache.n_prefixes == 8 and cache.n_skipped == 0 and cache.nbytes > 0
    size = cache.nbytes
    for _ in range(2):  # the cache must survive its use
        if edited:
            with edit_marked(model, Recorder()) as session:
                plain, n = inference.answer_logprobs(model, examples, session=session)
            with edit_marked(model, Recorder()) as session:
                fast, m = inference.answer_logprobs(model, examples, session=session, prefix=cache, token_budget=120)
                told = max(mask.shape[1] for _, mask in session.marks)
            assert told < max(len(item.ids) - item.start for item in inference.encode_one(model, examples))
            assert not np.allclose(plain, inference.answer_logprobs(model, examples)[0], atol=1e-2)
        else:
            plain, n = inference.answer_logprobs(model, examples)
            fast, m = inference.answer_logprobs(model, examples, prefix=cache)
        assert np.allclose(plain, fast, atol=1e-4 * max(1.0, np.abs(plain).max() / 50)) and (n == m).all()
    assert cache.nbytes == size


def test_prefix_cache_falls_back(model: Any, zoo: dict[str, Any]) -> None:
    """Another scope, an unknown session, a prompt not stored, memory used up: the plain way, same numbers."""
    cache = inference.PrefixCache(model, EXAMPLES[:3])
    plain, _ = inference.answer_logprobs(model, EXAMPLES)
    for session in (Recorder(frozenset({"all"})), Recorder(frozenset({"generated", "prompt"}))):
        assert not cache.exact_for(model, session)
        got, _ = inference.answer_logprobs(model, EXAMPLES, session=session, prefix=cache)
        assert np.allclose(got, plain, atol=1e-4)
        assert session.marks[0][1].shape[1] > 20
    got, _ = inference.answer_logprobs(model, EXAMPLES, prefix=cache)
    assert np.allclose(got, plain, atol=1e-3)
    small = inference.PrefixCache(model, EXAMPLES, token_budget=1, max_bytes=1)
    assert (small.n_prefixes, small.n_skipped) == (1, 3)
    assert np.allclose(inference.answer_logprobs(model, EXAMPLES, prefix=small)[0], plain, atol=1e-3)
    assert not cache.exact_for(zoo["gpt2"] if model is not zoo["gpt2"] else zoo["llama"], None)


# ---------------------------------------------------------------- generation


def greedy_by_hand(folder: Path, ids: tuple[int, ...], n: int, stops: frozenset[int]) -> list[int]:
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    seen, new = list(ids), []
    for _ in range(n):
        with torch.no_grad():
            token = int(hf(torch.tensor([seen])).logits[0, -1].argmax())
        if token in stops:
            break
        seen.append(token)
        new.append(token)
    return new


@pytest.mark.parametrize("name", ["llama", "gpt2", "chat"])
def test_greedy_equals_transformers(zoo: dict[str, Any], folders: dict[str, Path], name: str) -> None:
    model, text = zoo[name], models.tokenizer(zoo[name])
    got = inference.generate(model, PROMPTS, max_new_tokens=12)
    for item, out in zip(inference.encode_one(model, [Example(p, "") for p in PROMPTS]), got, strict=True):
        new = greedy_by_hand(folders[name], item.ids, 12, inference.stop_ids(model))
        assert out == text.decode(new, skip_special_tokens=True)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_batches_and_cache_change_nothing(model: Any, temperature: float) -> None:
    how: dict[str, Any] = {"max_new_tokens": 10, "temperature": temperature, "seed": 5}
    want = inference.generate(model, PROMPTS, **how)
    assert inference.generate(model, PROMPTS, cache=False, **how) == want
    assert inference.generate(model, PROMPTS, batch_size=1, **how) == want
    assert inference.generate(model, PROMPTS, batch_size=3, **how) == want
    assert inference.generate(model, PROMPTS[:2], **how) == want[:2]
    if temperature:
        assert inference.generate(model, PROMPTS, **(how | {"seed": 6})) != want


def test_texts_end_at_eos_whoever_ends_first(zoo: dict[str, Any]) -> None:
    """A hook that forces EOS after a number of steps; rows that ended are dropped and the others go on alike."""
    model = zoo["llama"]
    text = models.tokenizer(model)
    free = inference.generate(model, PROMPTS, max_new_tokens=12, temperature=1.0, seed=1, stop_at_eos=False)
    held = inference.generate(model, PROMPTS, max_new_tokens=12, temperature=1.0, seed=1)
    session = Recorder()
    kept = inference.generate(model, PROMPTS, max_new_tokens=12, temperature=1.0, seed=1, session=session)
    # a batch of one row has no row to drop
    alone = inference.generate(model, PROMPTS, max_new_tokens=12, temperature=1.0, seed=1, batch_size=1)
    assert kept == held == alone
    rows = [mask.shape[0] for _, mask in session.marks]
    assert rows[0] == len(PROMPTS) and rows == sorted(rows, reverse=True)
    assert all(text.eos_token not in out for out in held)
    assert all(whole.startswith(part) for whole, part in zip(free, held, strict=True))


def test_stop_tokens_end_and_rows_are_dropped(zoo: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With half the vocabulary as stop tokens texts end early, and still equal the ones decoded without dropping."""
    model = zoo["llama"]
    stops = frozenset(range(0, 320, 4))
    monkeypatch.setattr(inference.generation, "stop_ids", lambda model: stops)
    how: dict[str, Any] = {"max_new_tokens": 16, "temperature": 1.0, "seed": 2}
    many = [f"{p} {w}" for p in PROMPTS for w in ("a", "the fox", "bread")]
    session = Recorder()
    dropped = inference.generate(model, many, session=session, **how)
    # a batch of one row has no row to drop
    assert inference.generate(model, many, **how) == dropped == inference.generate(model, many, batch_size=1, **how)


def test_sessions_are_told_prompt_then_generated(zoo: dict[str, Any]) -> None:
    session = Recorder()
    inference.generate(zoo["llama"], PROMPTS, max_new_tokens=4, session=session, stop_at_eos=False)
    generated, mask = session.marks[0]
    assert not generated.any() and mask.sum(1).tolist() == sorted(mask.sum(1).tolist())
    assert len(session.marks) == 4
    assert all(g.shape == (4, 1) and g.all() and m.all() for g, m in session.marks[1:])
    session = Recorder()
    inference.generate(zoo["llama"], PROMPTS, max_new_tokens=4, session=session, cache=False, stop_at_eos=False)
    assert [int(g.sum()) for g, _ in session.marks] == [0, 4, 8, 12]


def test_edited_generation_with_cache_equals_without(model: Any) -> None:
    with edit_marked(model, Recorder()) as session:
        fast = inference.generate(model, PROMPTS, max_new_tokens=10, session=session)
        slow = inference.generate(model, PROMPTS, max_new_tokens=10, session=session, cache=False)
    assert fast == slow != inference.generate(model, PROMPTS, max_new_tokens=10)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), prompt=st.integers(0, 10**6), n=st.integers(1, 40))
def test_uniforms_depend_on_seed_prompt_and_place_alone(seed: int, prompt: int, n: int) -> None:
    long, short = uniforms(seed, prompt, n + 7), uniforms(seed, prompt, n)
    assert (long[:n] == short).all() and ((short >= 0) & (short < 1)).all()
    assert uniforms(seed, prompt + 1, 1) != short[0] and uniforms(seed + 1, prompt, 1) != short[0]


def test_uniforms_are_uniform() -> None:
    from scipy.stats import kstest

    draws = np.concatenate([uniforms(3, i, 20) for i in range(200)])
    assert kstest(draws, "uniform").pvalue > 0.001
    first = np.array([uniforms(3, i, 1)[0] for i in range(2000)])
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.08


def test_pick_is_the_inverse_cdf() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3]])).repeat(6, 1)
    u = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71, 1 - 1e-12], dtype=torch.float64)
    assert pick(logits, 1.0, u).tolist() == [0, 0, 1, 1, 2, 2]
    assert pick(logits, 0.0, u).tolist() == [1] * 6
    # half the temperature squares the odds: .04, .25, .09 over .38
    assert pick(logits, 0.5, torch.full((6,), 0.11)).tolist() == [1] * 6


def test_like_distributions_give_like_texts(zoo: dict[str, Any]) -> None:
    """Common random numbers: a hair's edit leaves almost every sampled text as it was."""
    model = zoo["llama"]
    handle = models.add_hook(model, models.hook_name(model, 1, "post"), lambda x, hook=None: x * 1.00001)
    near = inference.generate(model, PROMPTS, max_new_tokens=10, temperature=1.0)
    handle.remove()
    assert near == inference.generate(model, PROMPTS, max_new_tokens=10, temperature=1.0)


@pytest.mark.smollm2
def test_smollm2_chat_and_prefix(smollm2: Any) -> None:
    examples = [Example("Should Dana help her aunt?", a) for a in ("Yes, she should help her aunt.", "No, never.")]
    (item, _) = inference.encode_one(smollm2, examples)
    shown = models.tokenizer(smollm2).decode(item.ids)
    assert shown.startswith("<|im_start|>system\n") and shown.endswith("<|im_start|>assistant\n" + examples[0].answer)
    assert models.tokenizer(smollm2).decode(item.ids[item.start :]) == examples[0].answer
    cache = inference.PrefixCache(smollm2, examples)
    assert cache.n_prefixes == 1
    plain, _ = inference.answer_logprobs(smollm2, examples)
    assert np.allclose(plain, inference.answer_logprobs(smollm2, examples, prefix=cache)[0], atol=1e-3)
    assert "Paris" in inference.generate(smollm2, ["What is the capital of France?"], max_new_tokens=12)[0]


def test_another_models_tokenizer_is_named(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "m")
    tiny_tokenizer(vocab_size=420).save_pretrained(folder)
    with pytest.raises(InputError, match="another model's tokenizer"):
        inference.encode(models.load(folder), [Example("", "the villagers share bread with strangers " * 3)])


@pytest.mark.parametrize("name", ["llama", "gpt2", "chat"])
def test_prefilled_prompts_write_the_same_texts(zoo: dict[str, Any], name: str) -> None:
    """An edit of generated tokens behind prompts run once; edits that touch prompts never use what is kept."""
    model = zoo[name]
    vector = AddVector({1: np.linspace(-2, 2, models.info(model).d_model)}, dose=2.0)
    kept = inference.Prefill()
    plain = inference.generate(model, PROMPTS, max_new_tokens=7)
    assert inference.generate(model, PROMPTS, max_new_tokens=7, prefill=kept) == plain
    for scope, uses in (("generated", True), ("all", False), ("generated", True)):
        texts = []
        for prefill in (None, kept):
            with edit(model, vector.with_scope(scope), record=True) as session:
                texts.append(inference.generate(model, PROMPTS, max_new_tokens=7, session=session, prefill=prefill))
            # the prompt's own forward pass is left out where the kept one serves
            assert (session.touched[0].shape[1] == 1) == (prefill is not None and uses)
        assert texts[0] == texts[1] != plain
