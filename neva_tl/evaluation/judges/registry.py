"""Judges by name. A new judge is one file and one line here.

A factory takes what stands behind the colon of `NAME:REST` (empty where nothing does) and returns the judge, or raises an
InputError that says what is missing. Judges of the model itself that need it to be fitted are made elsewhere (`logprob`:
`LogProbJudge.fit`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.evaluation.judges.base import Judge

#: name -> (module:attribute of the factory, what stands behind the colon; empty: nothing). Imported when first used.
JUDGES: dict[str, tuple[str, str]] = {
    "classifier": ("neva_tl.evaluation.judges.classifier:load", "PATH"),
    "exact": ("neva_tl.evaluation.judges.exact:ExactJudge", ""),
    "chat": ("neva_tl.evaluation.judges.chat:from_spec", "MODEL@BASE_URL"),
    "hf": ("neva_tl.evaluation.judges.huggingface:load", "NAME_OR_FOLDER"),
    "wordlist": ("neva_tl.evaluation.judges.wordlist:WordListJudge", ""),
}


def known() -> str:
    """All accepted forms, for help texts and errors."""
    return ", ".join(f"{name}:{rest}" if rest else name for name, (_, rest) in JUDGES.items())


def load_judge(spec: str) -> Judge:
    """The judge of a name such as `wordlist` or `classifier:PATH`.

    Raises:
        InputError: unknown name, something missing behind the colon, or nothing usable there.
    """
    name, _, rest = spec.partition(":")
    if name not in JUDGES:
        raise InputError(f"unknown judge {spec!r}: choose {known()}")
    where, needed = JUDGES[name]
    if needed and not rest:
        raise InputError(f"the judge {name!r} needs {needed}: write {name}:{needed}")
    if rest and not needed:
        raise InputError(f"the judge {name!r} takes nothing behind a colon (got {rest!r})")
    module, _, attribute = where.partition(":")
    factory: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return factory(rest) if needed else factory()  # type: ignore[no-any-return]
