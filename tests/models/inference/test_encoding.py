"""Tokens and answer masks against character offsets and the tokenizer's own decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.sessions import EXAMPLES
from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint, tiny_tokenizer
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core


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


def test_another_models_tokenizer_is_named(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "m")
    tiny_tokenizer(vocab_size=420).save_pretrained(folder)
    with pytest.raises(InputError, match="another model's tokenizer"):
        inference.encode(models.load(folder), [Example("", "the villagers share bread with strangers " * 3)])
