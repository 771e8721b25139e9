"""Names as users write them: other spellings, suggestions for typing errors, and descriptions of objects in messages."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterable

import numpy as np

from neva_tl.core.errors import InputError


def _folded(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def spelling(name: object, allowed: Iterable[str]) -> str | None:
    """Return the allowed name that differs from a name only in case, spaces, hyphens and underscores, or None.

    Args:
        name: The name as the user wrote it.
        allowed: The names that exist.
    """
    if not isinstance(name, str):
        return None
    names = tuple(allowed)
    if name in names:
        return str(name)
    folded = _folded(name)
    same = [item for item in names if _folded(item) == folded]
    return same[0] if len(same) == 1 and folded else None


def did_you_mean(name: object, allowed: Iterable[str]) -> str:
    """Return "did you mean 'NAME'? " for the allowed name that is closest to a name; empty where none is close.

    Args:
        name: The name as the user wrote it.
        allowed: The names that exist.
    """
    if not isinstance(name, str) or len(name) > 200:
        return ""
    by_folded = {_folded(item): item for item in allowed}
    close = difflib.get_close_matches(_folded(name), by_folded, n=1, cutoff=0.7)
    return f"did you mean {by_folded[close[0]]!r}? " if close else ""


def as_name(what: str, name: object, allowed: Iterable[str]) -> str:
    """Return the allowed name that a user means.

    Args:
        what: The thing that has the name, for the message.
        name: The name as the user wrote it.
        allowed: The names that exist.

    Raises:
        InputError: None of them is meant; the message lists them.
    """
    names = tuple(allowed)
    match = spelling(name, names)
    if match is None:
        raise InputError(
            f"unknown {what} {describe(name)}: {did_you_mean(name, names)}choose from {', '.join(names) or 'none'}"
        )
    return match


def describe(thing: object) -> str:
    """Describe an object in a few words, on one line.

    Args:
        thing: Any object.
    """
    if thing is None or isinstance(thing, bool | int | float | complex):
        return repr(thing)[:40]
    if isinstance(thing, str):
        return repr(str(thing)) if len(thing) <= 40 else f"{str(thing)[:37]!r}..."
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    kind = type(thing).__name__
    pandas = sys.modules.get("pandas")  # not imported for this question: a DataFrame exists only where it is
    if pandas is not None and isinstance(thing, pandas.DataFrame):
        return f"a DataFrame of {len(thing)} rows"
    if isinstance(thing, np.generic):
        return f"{kind} {str(thing)[:40]}"
    shape = getattr(thing, "shape", None)
    if isinstance(shape, tuple):
        return f"{article(kind)} of shape {tuple(shape)}"
    if isinstance(thing, list | tuple | set | frozenset | dict):
        first = thing.values() if isinstance(thing, dict) else thing
        if not thing:
            return f"an empty {kind}"
        return f"{article(kind)} of {type(next(iter(first))).__name__}"
    if inspect.isroutine(thing):
        return f"the function {getattr(thing, '__name__', kind)}"
    return article(kind)


def article(noun: str) -> str:
    """Return a noun with its article.

    Args:
        noun: The noun.
    """
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
