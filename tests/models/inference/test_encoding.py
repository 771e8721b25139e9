"""Tokens and answer masks against character offsets and the tokenizer's own decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.sessions import EXAMPLES
from neva_tl import models, prompts
from neva_tl.core.errors import InputError
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint, tiny_tokenizer
from neva_tl.prompts.contrast import each_example, examples_of
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
        for item in inference.encode_one(model, EXAMPLES, chat=False):
            assert item.ids[0] == bos and item.ids.count(bos) == 1, name
            assert item.start >= 1


def test_chat_template_is_the_default_where_there_is_one(zoo: dict[str, Any]) -> None:
    text = models.tokenizer(zoo["chat"])
    (item,) = inference.encode_one(zoo["chat"], [Example("Hello?", "Hi.")])
    assert text.decode(item.ids) == "<user>Hello?</s><assistant>Hi."
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


def row(text: str, start: int | None, end: int | None = None) -> pd.DataFrame:
    """A contrast table of one row."""
    end = len(text) if start is not None and end is None else end
    return pd.DataFrame({"text": [text], "answer_start": [start], "answer_end": [end]}).astype(
        {"answer_start": "Int64", "answer_end": "Int64"}
    )


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("Do you agree? (A) yes (B) no. Answer: (A)", 39, None),
        ("Will you share? (A) yes (B) no.\nAnswer:\nA", 40, None),
        ("你会分享吗？会的。", 6, None),
        ("パンを分けますか。はい", 9, 10),
        ("Two  spaces.  Yes, two.  ", 14, None),
        ("tab:\tYes\n", 5, None),
        ("  indented prompt yes", 18, None),
        ("   yes", 3, None),
        ("Span from the space on: yes", 23, None),
        ("middle of a wo", 13, None),
        ("Answer: yes, and more after it", 8, 11),
        ("\u3000全角 はい", 4, None),
        ("\n no answer marked \n", None, None),
    ],
)
def test_the_text_of_the_table_runs(zoo: dict[str, Any], text: str, start: int | None, end: int | None) -> None:
    """Token ids are those of `text[:end]`, and the answer's are the tokens whose characters reach past its start."""
    (example,) = each_example(row(text, start, end))
    for name in ("llama", "gpt2"):
        tokenizer = models.tokenizer(zoo[name])
        (item,) = inference.encode_one(zoo[name], [example])
        raw = tokenizer(text[: end or len(text)], add_special_tokens=False, return_offsets_mapping=True)
        assert list(item.ids[1:]) == raw["input_ids"] and item.ids[0] == tokenizer.bos_token_id
        answer = [i for i, (_, last) in enumerate(raw["offset_mapping"]) if last > (start or 0)]
        assert list(range(item.start - 1, len(item.ids) - 1)) == answer
        assert tokenizer.decode(item.ids[1:]) == text[: end or len(text)]


@pytest.mark.parametrize("separator", ["", "\n", "\n\nAnswer: ", " "])
def test_the_separator_is_what_it_was_set_to(zoo: dict[str, Any], separator: str) -> None:
    text = models.tokenizer(zoo["llama"])
    (item,) = inference.encode_one(zoo["llama"], [Example("你好吗？", "好", separator=separator)])
    assert text.decode(item.ids, skip_special_tokens=True) == f"你好吗？{separator}好"
    assert text.decode(item.ids[item.start :]) == "好"
    # a template writes what is between the turns
    (item,) = inference.encode_one(zoo["chat"], [Example("Hello?", "Hi.", separator=separator)])
    assert text.decode(item.ids) == "<user>Hello?</s><assistant>Hi."


def encoded_as_in_0_1(model: Any, df: pd.DataFrame, chat: bool) -> list[tuple[tuple[int, ...], int]]:
    """Token ids and answer starts as version 0.1.0 made them: stripped and joined with a space, BOS by convention."""
    tokenizer = models.tokenizer(model)
    front = [tokenizer.bos_token_id] if inference.prepends_bos(model) else []
    out = []
    for text, start, end in zip(df["text"], df["answer_start"], df["answer_end"], strict=True):
        prompt = "" if pd.isna(start) else text[: int(start)].strip()
        answer = text.strip() if pd.isna(start) else text[int(start) : int(end)].strip()
        lead = f"{prompt} " if prompt else ""
        if chat:
            turn = [{"role": "user", "content": prompt or inference.NEUTRAL_TURN}]
            lead = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        raw = tokenizer(lead + answer, add_special_tokens=False, return_offsets_mapping=True)
        ids = [*([] if raw["input_ids"][:1] == front else front), *raw["input_ids"]]
        ends = [int(last) for _, last in raw["offset_mapping"]]
        out.append((tuple(ids), sum(last <= len(lead) for last in ends) + len(ids) - len(ends)))
    return out


@pytest.mark.parametrize("name", ["demo", "schwartz"])
def test_built_in_sets_keep_their_token_ids(demo: Any, zoo: dict[str, Any], tmp_path: Path, name: str) -> None:
    """On the demo model, and on a chat tokenizer whose template writes its own BOS."""
    folder = tiny_checkpoint(tmp_path / "bos", chat=True, n_ctx=512)
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    df = prompts.load(name).df
    for model, chat in ((demo, False), (models.load(folder), True)):
        if model is demo and name == "schwartz":
            continue  # the demo model does not know English
        now = [(item.ids, item.start) for item in inference.encode_one(model, examples_of(df), chat=chat)]
        assert now == encoded_as_in_0_1(model, df, chat)
        assert inference.encoding_change(model, chat) == {}


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
    with pytest.raises(InputError, match=r"prompts of generate\(\) is 3"):
        inference.generate(model, 3)
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
