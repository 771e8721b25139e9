"""Texts from a cache are the texts without one, and are written once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import neva_tl as nv
from neva_tl import models
from neva_tl.core.cache import JsonCache, content_key
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Ablate, AddVector, RolePrompt, edit
from neva_tl.evaluation import Decoding, leakage, observe
from neva_tl.evaluation.conditions import text_cache as written_module
from neva_tl.evaluation.conditions.observe import observe_many, write_texts, write_texts_many
from neva_tl.evaluation.conditions.text_cache import recall, text_keys
from neva_tl.evaluation.judges import CachedJudge, WordListJudge
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint, tiny_tokenizer

PROMPTS = [
    "at the market , tom thinks that",
    "tom says that",
    "on sunday , anna wants to",
    "anna thinks that",
    "tom is",
]
HOW = Decoding(max_new_tokens=6, temperature=1.0, seed=3)
GREEDY = Decoding(max_new_tokens=6)


def push(scale: float = 1.0, seed: int = 0) -> AddVector:
    return AddVector({2: scale * np.random.default_rng(seed).normal(0, 1, 128)})


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Every prompt that reaches the model."""
    seen: list[str] = []
    generate = inference.generate

    def spy(model, prompts, **options):
        seen.extend(prompts)
        return generate(model, prompts, **options)

    monkeypatch.setattr(inference, "generate", spy)
    return seen


@pytest.mark.parametrize("how", [HOW, GREEDY])
@pytest.mark.parametrize("edits", [None, push(), [push(), RolePrompt("be good .")]], ids=["none", "push", "two"])
def test_texts_are_the_same_with_and_without_and_written_once(demo, tmp_path, asked, how, edits):
    plain = write_texts(demo, edits, PROMPTS, how)
    asked.clear()
    cache = JsonCache(tmp_path / "c")
    assert write_texts(demo, edits, PROMPTS[:3], how, cache=cache) == plain[:3]
    assert len(asked) == 3
    assert write_texts(demo, edits, PROMPTS, how, cache=cache) == plain  # the two new ones join
    assert len(asked) == 5
    cache.close()
    assert write_texts(demo, edits, PROMPTS, replace(how, batch_size=2), cache=JsonCache(tmp_path / "c")) == plain
    assert len(asked) == 5


def test_a_prompts_number_belongs_to_the_key_where_dice_are_thrown(demo, asked):
    """The same prompt twice, and prompts in another order: other random numbers, so other texts; greedy ones are one."""
    cache = JsonCache(None)
    twice = [PROMPTS[0]] * 4
    plain = write_texts(demo, None, twice, HOW)
    assert len(set(plain)) > 1
    assert write_texts(demo, None, twice, HOW, cache=cache) == plain
    turned = PROMPTS[::-1]
    for prompts in (PROMPTS, turned, twice):
        assert write_texts(demo, None, prompts, HOW, cache=cache) == write_texts(demo, None, prompts, HOW)
    asked.clear()
    for prompts in (PROMPTS, turned, twice):
        write_texts(demo, None, prompts, GREEDY, cache=cache)
    assert sorted(asked) == sorted(PROMPTS)


def test_every_condition_has_texts_of_its_own(demo, asked):
    """Dose, order, weights and decoding are told apart; the seed only where dice are thrown."""
    cache = JsonCache(None)
    write_texts(demo, push(), PROMPTS, HOW, cache=cache)
    conditions = [
        (None, HOW), (push(0.5), HOW), ([push(), push(1.0, 1)], HOW), ([push(1.0, 1), push()], HOW),
        (push().with_scope("last"), HOW), (push(), replace(HOW, seed=4)), (push(), replace(HOW, max_new_tokens=5)),
        (push(), replace(HOW, temperature=0.7)), (push(), GREEDY),
    ]  # fmt: skip
    for edits, how in conditions:
        asked.clear()
        assert write_texts(demo, edits, PROMPTS, how, cache=cache) == write_texts(demo, edits, PROMPTS, how)
        assert len(asked) == 2 * len(PROMPTS)
    asked.clear()
    write_texts(demo, push(), PROMPTS, replace(GREEDY, seed=9), cache=cache)
    assert asked == []


def test_other_weights_are_another_model(asked):
    cache = JsonCache(None)
    one, two = nv.load("demo"), nv.load("demo")
    with torch.no_grad():
        two.blocks[3].mlp.W_out.mul_(0.5)
    write_texts(one, None, PROMPTS, HOW, cache=cache)
    asked.clear()
    assert write_texts(two, None, PROMPTS, HOW, cache=cache) == write_texts(two, None, PROMPTS, HOW)
    assert len(asked) == 2 * len(PROMPTS)
    asked.clear()
    write_texts(nv.load("demo"), None, PROMPTS, HOW, cache=cache)
    assert asked == []


def test_conditions_in_common_batches_share_the_texts(demo, asked):
    conditions = [(push(),), (), (push(-1.0), push(0.3)), (RolePrompt("be good ."),)]
    plain = write_texts_many(demo, conditions, PROMPTS, HOW)
    cache = JsonCache(None)
    write_texts(demo, push(), PROMPTS, HOW, cache=cache)
    asked.clear()
    assert write_texts_many(demo, conditions, PROMPTS, HOW, cache=cache) == plain
    assert len(asked) == 3 * len(PROMPTS)
    for edits, texts in zip(conditions, plain, strict=True):
        assert write_texts(demo, edits, PROMPTS, HOW, cache=cache) == texts
    assert len(asked) == 3 * len(PROMPTS)
    judge = WordListJudge()
    for a, b in zip(
        observe_many(demo, conditions, PROMPTS, judge, decoding=HOW, cache=cache),
        observe_many(demo, conditions, PROMPTS, judge, decoding=HOW),
        strict=True,
    ):
        pd.testing.assert_frame_equal(a.generations, b.generations)


def test_leakage_with_caches_is_leakage_without(demo, tmp_path, asked):
    edits = {"power": push(3.0), "security": push(-3.0)}
    options = {"decoding": replace(HOW, samples=2), "n_boot": 100, "n_permutations": 50, "progress": False}
    plain = leakage(demo, edits, PROMPTS, WordListJudge(), **options)
    for known in (False, True):
        asked.clear()
        cache = JsonCache(tmp_path / "t")
        found = leakage(demo, edits, PROMPTS, CachedJudge(WordListJudge(), tmp_path / "r"), cache=cache, **options)
        pd.testing.assert_frame_equal(found.table(), plain.table())
        pd.testing.assert_frame_equal(found.generations, plain.generations)
        pd.testing.assert_frame_equal(found.summary(), plain.summary())
        assert len(asked) == (0 if known else 3 * 2 * len(PROMPTS))
    assert observe(demo, None, PROMPTS, WordListJudge(), decoding=options["decoding"], cache=cache) is not None
    assert asked == []


def test_resampled_texts_are_the_same_in_every_batch_and_cached(demo, asked):
    df = pd.DataFrame(
        {"layer": 1, "neuron": np.arange(40), "mean_plus": 1.0, "mean_minus": 0.0, "sd": 1.0, "score": 1.0}
    )
    resampled = Ablate(NeuronSet("power", "m", df, 4, 384), mode="resample")
    cache = JsonCache(None)
    plain = write_texts(demo, resampled, PROMPTS, HOW)
    assert write_texts(demo, resampled, PROMPTS, HOW, cache=cache) == plain
    assert write_texts_many(demo, [(resampled,), ()], PROMPTS, HOW)[0] == plain
    assert len(cache) == len(PROMPTS)


def test_a_model_with_other_hooks_is_refused_with_a_cache_alone(demo):
    with edit(demo, push()):
        write_texts(demo, None, PROMPTS[:1], HOW)
        with pytest.raises(InputError, match="carries hooks"):
            write_texts(demo, None, PROMPTS[:1], HOW, cache=JsonCache(None))
    write_texts(demo, None, PROMPTS[:1], HOW, cache=JsonCache(None))


def test_a_killed_run_loses_the_running_chunk_alone(monkeypatch):
    monkeypatch.setattr(written_module, "CHUNK", 3)
    cache, calls = JsonCache(None), []

    def write(places: list[int]) -> list[str]:
        calls.append(places)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return [f"text {place}" for place in places]

    keys = [f"k{i % 8}" for i in range(10)]  # two keys come twice
    lengths = [9, 8, 7, 6, 5, 4, 3, 2, 9, 8]
    with pytest.raises(KeyboardInterrupt):
        recall(cache, keys, lengths, write)
    assert calls[:2] == [[7, 6, 5], [4, 3, 2]] and len(cache) == 6
    assert recall(cache, keys, lengths, write) == [f"text {i % 8}" for i in range(10)]
    assert calls[3] == [1, 0]


def test_other_template_settings_are_other_texts(tmp_path):
    """Keys differ by date and by BOS where the template is used, and are those of version 0.1.0 where token ids are."""
    folder = tiny_checkpoint(tmp_path / "m", chat=True)
    plain = models.load(folder)
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    model = models.load(folder)

    def key(model, chat=None):
        return text_keys(model, [], ["Why?"], [0], Decoding(max_new_tokens=6, chat=chat))[0]

    first, without = key(model), key(model, chat=False)
    inference.set_template(model, date="2025-01-31")
    assert key(model) != first and key(model, chat=False) == without
    inference.set_template(model)
    assert key(model) == first
    origin = content_key(models.fingerprint(plain), [])
    assert key(plain, chat=False) == content_key("text", 1, origin, [6, False], "Why?", None)
