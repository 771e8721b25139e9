"""Chat templates: conversations, template arguments, a fixed date, and prompts that went through a template before."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date as calendar_date
from datetime import datetime
from typing import Any

from neva_tl import models
from neva_tl.core.errors import InputError, NevaError
from neva_tl.models.facts import MEMO
from neva_tl.prompts.example import Example

#: The user's turn when an example has no prompt of its own and the model is a chat model.
NEUTRAL_TURN = "Tell me what you think."
#: The date that templates read as today's (Llama 3.1's own default), so that a run has the same tokens on any day.
TEMPLATE_DATE = "2024-07-26"
#: Arguments of `apply_chat_template` that are not the template's own.
_RESERVED = frozenset(
    {
        "conversation",
        "messages",
        "tools",
        "documents",
        "chat_template",
        "add_generation_prompt",
        "continue_final_message",
        "tokenize",
        "padding",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
        "sanitize_control_tokens",
        "strftime_now",
    }
)
_CLOCK = threading.Lock()


@dataclass(frozen=True)
class TemplateSettings:
    """Settings of a model's chat template.

    Attributes:
        date: The date that the template reads as today's, YYYY-MM-DD.
        arguments: Further variables of the template, such as `enable_thinking`.
    """

    date: str = TEMPLATE_DATE
    arguments: Mapping[str, Any] = field(default_factory=dict)


def set_template(model: models.Model, *, date: str | None = None, **arguments: Any) -> None:
    """Set the date and the arguments of a model's chat template, in every later call with this model.

    Args:
        model: A TransformerLens model.
        date: The date that the template reads as today's, YYYY-MM-DD; None keeps `TEMPLATE_DATE`.
        **arguments: Variables of the template, such as `enable_thinking=False`; without any, the template's own defaults.

    Raises:
        InputError: The model has no chat template, the template does not read an argument, or the date is not a date.
    """
    source = _source(model)
    if not source:
        raise InputError(f"{models.info(model).name} has no chat template: there is nothing to set")
    try:
        day = calendar_date.fromisoformat(TEMPLATE_DATE if date is None else date).isoformat()
    except (TypeError, ValueError) as error:
        raise InputError(f"date is {date!r}: write it as YYYY-MM-DD, e.g. {TEMPLATE_DATE}") from error
    for name, argument in arguments.items():
        if name in _RESERVED or not re.search(rf"\b{re.escape(name)}\b", source):
            raise InputError(f"the chat template of {models.info(model).name} reads no argument {name!r}: leave it out")
        try:
            json.dumps(argument)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the template argument {name!r} is a {type(argument).__name__}: give plain data (text, number, list)"
            ) from error
    MEMO.put(model, "template", TemplateSettings(day, dict(arguments)))


def template_settings(model: models.Model) -> TemplateSettings:
    """The settings of a model's chat template (see `set_template`)."""
    settings: TemplateSettings = MEMO.get(model, "template", TemplateSettings)
    return settings


def template_record(model: models.Model) -> dict[str, Any]:
    """Settings of the template that change its text: the date where the template reads one, and arguments."""
    settings = template_settings(model)
    record: dict[str, Any] = {"date": settings.date} if reads_date(model) else {}
    return record | ({"arguments": dict(settings.arguments)} if settings.arguments else {})


def reads_date(model: models.Model) -> bool:
    """Whether the template of a model reads today's date."""
    return "strftime_now" in _source(model)


def conversation_text(model: models.Model, item: Example) -> str:
    """Text of an example up to the assistant's answer: earlier turns and the user's turn in the model's template.

    Args:
        model: A TransformerLens model with a chat template.
        item: The example; `NEUTRAL_TURN` is the user's turn where it has no prompt.

    Raises:
        InputError: A turn holds special tokens of the template (it went through the template before), or the template
            refuses the conversation.
    """
    turns = (*item.turns, ("user", item.prompt or NEUTRAL_TURN))
    for _, content in turns:
        _check_untemplated(model, content)
    return _rendered(model, turns)


def opens_template(model: models.Model, text: str) -> bool:
    """Whether a text begins as one that went through the model's chat template before, which decides about BOS."""
    return models.info(model).chat and text.startswith(_marks(model)[0])


def _rendered(model: models.Model, turns: Sequence[tuple[str, str]]) -> str:
    """The conversation in the model's template, up to the assistant's answer."""
    tokenizer, settings = models.tokenizer(model), template_settings(model)
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        with _fixed_today(settings.date) if reads_date(model) else _unchanged():
            text = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False, **settings.arguments
            )
    except NevaError:
        raise
    except Exception as error:  # a template is a program of the checkpoint: any error may come out of it
        line = (str(error).strip().splitlines() or [""])[0][:160]
        raise InputError(
            f"the chat template of {models.info(model).name} failed ({type(error).__name__}: {line}): "
            "change the messages or the template's arguments, or use chat=False"
        ) from error
    return str(text)


@contextmanager
def _unchanged() -> Iterator[None]:
    yield


@contextmanager
def _fixed_today(date: str) -> Iterator[None]:
    """Let templates read a date as today's: `strftime_now` looks up the clock in transformers' module."""
    from transformers.utils import chat_template_utils

    moment = datetime.fromisoformat(f"{date}T12:00:00")

    class FixedClock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return moment.replace(tzinfo=tz)

    module: Any = chat_template_utils
    if not hasattr(module, "datetime"):
        raise InputError(
            "this version of transformers reads the date elsewhere, so that it cannot be fixed: use chat=False, or "
            "transformers 5"
        )
    with _CLOCK:
        clock = module.datetime
        module.datetime = FixedClock
        try:
            yield
        finally:
            module.datetime = clock


def _check_untemplated(model: models.Model, content: str) -> None:
    """Refuse a turn that went through the model's template before."""
    tokens, opening, closing = _marks(model)
    mark = next((token for token in tokens if token in content), None)
    stripped = content.strip()
    if mark is None and opening and closing and stripped.startswith(opening) and stripped.endswith(closing):
        mark = opening
    if mark is not None:
        raise InputError(
            f"the prompt {content[:40]!r} holds {mark!r}, which the chat template of {models.info(model).name} writes: "
            "the template would be applied twice; give the turn alone (or its messages), or use chat=False"
        )


def _marks(model: models.Model) -> tuple[tuple[str, ...], str, str]:
    """Special tokens that the template writes, and the text that it puts before and after a user's turn."""
    marks: tuple[tuple[str, ...], str, str] = MEMO.get(
        model, ("template marks", _source(model)), lambda: _find_marks(model)
    )
    return marks


def _find_marks(model: models.Model) -> tuple[tuple[str, ...], str, str]:
    tokenizer = models.tokenizer(model)
    probe = "0123456789"
    shown = _rendered(model, [("user", probe)])
    opening, _, closing = shown.partition(probe)
    special = {str(token) for token in tokenizer.all_special_tokens}
    special |= {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    written = sorted(token for token in special if token.strip() and (token in shown or token in _source(model)))
    return tuple(written), opening.removeprefix(tokenizer.bos_token or "").strip(), closing.strip()


def _source(model: models.Model) -> str:
    """Text of the model's chat template (of all of them, where it has several)."""
    return str(getattr(models.tokenizer(model), "chat_template", None) or "")
