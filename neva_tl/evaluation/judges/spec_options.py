"""Options after the `#` of a judge's name, such as `chat:MODEL#key=none&rpm=60`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from neva_tl.core.errors import InputError


def read_options(text: str, options: Mapping[str, tuple[str, Callable[[str], Any]]], judge: str) -> dict[str, Any]:
    """Return the arguments that a text of options gives.

    Args:
        text: `option=value&...`; may be empty.
        options: Option -> (argument, parser of its text, which raises ValueError).
        judge: Name of the judge for messages.

    Raises:
        InputError: An option is unknown or malformed.
    """
    arguments: dict[str, Any] = {}
    for name, entry in parse_qsl(text, keep_blank_values=True):
        if name not in options:
            # the message does not repeat the option: it may be a key
            raise InputError(f"the {judge} judge has no such option: choose {', '.join(options)}")
        argument, read = options[name]
        try:
            arguments[argument] = read(entry)
        except ValueError:
            raise InputError(f"the {judge} judge's option {name} is malformed: it needs a number or yes/no") from None
    return arguments


def yes_or_no(text: str) -> bool:
    """Parse `yes` or `no`; an empty text is yes.

    Args:
        text: The option's text.

    Raises:
        ValueError: It is neither.
    """
    if text.lower() not in ("yes", "no", "true", "false", "1", "0", ""):
        raise ValueError(text)
    return text.lower() in ("yes", "true", "1", "")
