"""Chat templates: conversations, template arguments, a fixed date, and prompts that went through a template before."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date as calendar_date
from typing import Any

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.models.facts import MEMO
from neva_tl.models.inference.template_renderer import TemplateFailure, render_cached
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


@dataclass(frozen=True)
class TemplateSettings:
    """Settings of a model's chat template.

    Attributes:
        date: The date that the template reads as today's, YYYY-MM-DD.
        arguments: Further variables of the template, such as `enable_thinking`.
    """

    date: str = TEMPLATE_DATE
    arguments: Mapping[str, Any] = field(default_factory=dict)


@check_arguments
def set_template(model: models.Model, *, date: str | None = None, **arguments: Any) -> None:
    """Set the date and the arguments of a model's chat template, in every later call with this model.

    Args:
        model: A TransformerLens model.
        date: The date that the template reads as today's, YYYY-MM-DD; None keeps `TEMPLATE_DATE`.
        **arguments: Variables of the template, such as `enable_thinking=False`; without any, the template's own defaults.

    Raises:
        InputError: The model has no chat template, the template does not read an argument, or the date is not a date.

    Example:
        >>> from neva_tl.models.tiny import tiny_checkpoint
        >>> chat_model = nv.load(tiny_checkpoint("tiny", chat=True))  # random weights
        >>> nv.inference.set_template(chat_model, date="2025-01-31")
        >>> nv.inference.template_settings(chat_model).date
        '2025-01-31'
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
    """The settings of a model's chat template (see `set_template`).

    Example:
        >>> from neva_tl.models.tiny import tiny_checkpoint
        >>> chat_model = nv.load(tiny_checkpoint("tiny", chat=True))  # random weights
        >>> nv.inference.template_settings(chat_model).date
        '2024-07-26'
    """
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
    return models.info(model).chat and text.startswith(_openings(model))


def _openings(model: models.Model) -> tuple[str, ...]:
    """Special tokens that the template writes; none where it fails, so that plain texts need no template that works."""

    def find() -> tuple[str, ...]:
        try:
            return _marks(model)[0]
        except InputError:
            return ()

    openings: tuple[str, ...] = MEMO.get(model, ("template openings", _source(model)), find)
    return openings


def _rendered(model: models.Model, turns: Sequence[tuple[str, str]]) -> str:
    """The conversation in the model's template, up to the assistant's answer."""
    tokenizer, settings = models.tokenizer(model), template_settings(model)
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        template = tokenizer.get_chat_template()
        variables = {name: _plain(token) for name, token in tokenizer.special_tokens_map.items()}
        return render_cached(
            template, messages, variables | dict(settings.arguments), date=settings.date if reads_date(model) else None
        )
    except (TemplateFailure, ValueError) as error:  # ValueError: several templates, none of them the default
        line = (str(error).strip().splitlines() or [""])[0]
        why = line if isinstance(error, TemplateFailure) else f"failed ({type(error).__name__}: {line[:160]})"
        raise InputError(
            f"the chat template of {models.info(model).name} {why}: change the messages or the template's arguments, or use "
            "chat=False"
        ) from error


def _plain(token: Any) -> Any:
    return [str(one) for one in token] if isinstance(token, list | tuple) else str(token)


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
