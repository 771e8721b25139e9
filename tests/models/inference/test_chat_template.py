"""Chat input against `apply_chat_template` of transformers: conversations, arguments, dates, templates applied twice."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint, tiny_tokenizer
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Why?"},
]
ROLES = (
    "{% for m in messages %}{{ '<user>' + m['role'] + ': ' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
DATED = "{{ bos_token }}Today: {{ strftime_now('%d %b %Y') }} {% if brief %}Be brief. {% endif %}" + ROLES
TEXTUAL = "{% for m in messages %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endfor %}"


def with_template(folder: Path, template: str) -> Any:
    tiny_checkpoint(folder, chat=True)
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return models.load(folder)


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return with_template(tmp_path_factory.mktemp("roles"), ROLES)


@pytest.fixture
def dated(tmp_path: Path) -> Any:
    return with_template(tmp_path / "dated", DATED)


def own(model: Any, messages: list[dict[str, str]], **arguments: Any) -> list[int]:
    """Token ids by transformers alone."""
    ids = models.tokenizer(model).apply_chat_template(messages, add_generation_prompt=True, tokenize=True, **arguments)
    return list(ids["input_ids"] if hasattr(ids, "keys") else ids)


def test_conversations_are_those_of_the_template(roles: Any) -> None:
    (item,) = inference.encode_one(roles, [Example.of(TALK, "Because.")])
    assert list(item.ids[: item.start]) == own(roles, TALK)
    assert models.tokenizer(roles).decode(item.ids[item.start :]) == "Because."
    assert Example.of(TALK) == Example(
        "Why?", "", turns=(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"))
    )


def test_generate_takes_conversations(roles: Any) -> None:
    import torch

    (text,) = inference.generate(roles, [TALK], max_new_tokens=4)
    ids = own(roles, TALK)
    new: list[int] = []
    for _ in range(4):
        logits = roles(torch.tensor([ids + new]))
        new.append(int(logits[0, -1].argmax()))
        if new[-1] in inference.stop_ids(roles):
            break
    assert text == models.tokenizer(roles).decode(new, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("messages", "match"),
    [
        ([], "it is empty"),
        (TALK[:3], "last role is 'assistant'"),
        ([{"role": "user"}], "needs role and content"),
        ([{"role": "user", "content": ""}], "not empty"),
        ([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "are texts"),
        ([{"role": "user", "content": "Hi", "tool_calls": []}], "alone"),
        (["Hi"], "needs role and content"),
    ],
)
def test_what_is_not_a_conversation_is_refused(messages: Any, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        Example.of(messages)
    assert "\n" not in str(caught.value)


def test_earlier_turns_need_a_template(zoo: dict[str, Any], roles: Any) -> None:
    for model, chat in ((zoo["llama"], None), (roles, False)):
        with pytest.raises(InputError, match="earlier turns, which need a chat template"):
            inference.encode_one(model, [Example.of(TALK, "Because.")], chat=chat)


def test_no_bos_that_the_template_lacks(zoo: dict[str, Any], dated: Any) -> None:
    """The template alone decides: without one in it there is none, with one there is one."""
    turn = [{"role": "user", "content": "Hello?"}]
    (item,) = inference.encode_one(zoo["chat"], [Example("Hello?", "")])
    assert list(item.ids) == own(zoo["chat"], turn)
    bos = models.tokenizer(dated).bos_token_id
    (item,) = inference.encode_one(dated, [Example("Hello?", "")])
    assert item.ids[0] == bos and item.ids.count(bos) == 1


@pytest.mark.parametrize("answer", ["", "Hi."])
def test_a_template_is_not_applied_twice(zoo: dict[str, Any], answer: str) -> None:
    model = zoo["chat"]
    tokenizer, turn = models.tokenizer(model), [{"role": "user", "content": "Hello?"}]
    prompt = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    with pytest.raises(InputError, match="applied twice"):
        inference.encode_one(model, [Example("Fine.", ""), Example(prompt, answer)])
    with pytest.raises(InputError, match="applied twice"):
        inference.generate(model, [prompt], max_new_tokens=1)
    with pytest.raises(InputError, match="applied twice"):
        inference.encode_one(model, [Example.of([{"role": "assistant", "content": prompt}, *turn])])
    # as plain text it runs as it is, without a BOS that the template lacks
    (item,) = inference.encode_one(model, [Example(prompt, answer, separator="")], chat=False)
    assert list(item.ids[: item.start]) == own(model, turn)


def test_templates_without_special_tokens_are_known_by_their_text(tmp_path: Path) -> None:
    model = with_template(tmp_path / "m", TEXTUAL)
    with pytest.raises(InputError, match="applied twice"):
        inference.encode_one(model, [Example("[INST] Hello? [/INST]", "Hi.")])
    inference.encode_one(model, [Example("What does [INST] mean?", "Nothing.")])


@pytest.mark.parametrize("day", [1, 28])
def test_the_date_is_fixed(dated: Any, monkeypatch: pytest.MonkeyPatch, day: int) -> None:
    from transformers.utils import chat_template_utils

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime.datetime:
            return datetime.datetime(2026, 11, day)

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
    (item,) = inference.encode_one(dated, [Example("Hello?", "")])
    text = models.tokenizer(dated)
    assert text.decode(item.ids) == "<s>Today: 26 Jul 2024 <user>user: Hello?</s><assistant>"
    assert inference.encoding_record(dated)["date"] == inference.TEMPLATE_DATE
    # the clock of everyone else is back
    assert chat_template_utils.datetime is Clock
    assert f"{day:02d} Nov 2026" in text.decode(own(dated, [{"role": "user", "content": "Hello?"}]))


def test_date_and_arguments_can_be_set(dated: Any) -> None:
    plain = inference.encoding_record(dated)
    inference.set_template(dated, date="2025-01-31", brief=True)
    (item,) = inference.encode_one(dated, [Example("Hello?", "")])
    assert models.tokenizer(dated).decode(item.ids).startswith("<s>Today: 31 Jan 2025 Be brief. <user>")
    record = inference.encoding_record(dated)
    assert (record["date"], record["arguments"]) == ("2025-01-31", {"brief": True}) and record["probe"] != plain[
        "probe"
    ]
    assert inference.encoding_record(dated, chat=False)["chat"] is False
    inference.set_template(dated)
    assert inference.encoding_record(dated) == plain


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"enable_thinking": False}, "reads no argument 'enable_thinking'"),
        ({"messages": []}, "reads no argument"),
        ({"strftime_now": 1}, "reads no argument"),
        ({"brief": print}, "plain data"),
        ({"date": "today"}, "YYYY-MM-DD"),
        ({"date": "2024-13-01"}, "YYYY-MM-DD"),
    ],
)
def test_wrong_settings_are_refused(dated: Any, options: dict[str, Any], match: str) -> None:
    before = inference.template_settings(dated)
    with pytest.raises(InputError, match=match):
        inference.set_template(dated, **options)
    assert inference.template_settings(dated) == before


def test_settings_need_a_template(zoo: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no chat template"):
        inference.set_template(zoo["llama"], date="2025-01-01")


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no system role') }}",
        "{{ messages[0]['content'] + 1 }}",
        "{{ missing.attribute }}",
        "{% for m in messages %}",
        "{{ ''.__class__.__mro__ }}",
    ],
)
def test_a_templates_own_errors_are_one_line(tmp_path: Path, template: str) -> None:
    model = with_template(tmp_path / "m", template)
    with pytest.raises(InputError, match=r"the chat template of .* failed") as caught:
        inference.encode_one(model, [Example("Hello?", "Hi.")])
    assert "\n" not in str(caught.value)


def test_changed_encodings_are_told_from_those_of_0_1(zoo: dict[str, Any], dated: Any) -> None:
    assert inference.encoding_change(zoo["llama"]) == inference.encoding_change(zoo["chat"], False) == {}
    assert inference.encoding_change(zoo["chat"]) == {"bos": False}
    assert inference.encoding_change(dated) == {"date": inference.TEMPLATE_DATE}
