"""Kinds of arguments of public calls: what a parameter takes, how it is converted, and what a message says about it."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np


class Unfit(Exception):
    """An object that a parameter does not take; the message is a further hint, or empty."""


@dataclass(frozen=True)
class Kind:
    """What a parameter takes.

    Attributes:
        expected: The objects it takes, with an article and an example.
        take: Returns the object, converted where that is needed; raises `Unfit`.
        specific: Whether few objects fit, so that two arguments that fit each other's place were swapped.
    """

    expected: str
    take: Callable[[Any], Any]
    specific: bool = False


#: Largest number of a public call, in size: computations square numbers.
_LARGEST = 1e100


def _scalar(thing: Any) -> Any:
    """Return the Python number of a numpy or torch scalar, or of an array with one element; other objects as they are."""
    if isinstance(thing, np.generic) or (hasattr(thing, "item") and hasattr(thing, "shape") and _size(thing) == 1):
        return thing.item()
    return thing


def _size(thing: Any) -> int:
    return math.prod(int(n) for n in thing.shape) if isinstance(thing.shape, tuple) else -1


def _take_int(thing: Any) -> int:
    number = _scalar(thing)
    if isinstance(number, int) and not isinstance(number, bool):
        if not -(2**63) <= number < 2**63:
            raise Unfit("it does not fit into 64 bits")
        return number if type(number) is int else int(number)
    if not isinstance(number, float) or not math.isfinite(number) or number != int(number):
        raise Unfit
    return int(number)


def _take_float(thing: Any) -> float:
    number = _scalar(thing)
    if isinstance(number, bool) or not isinstance(number, int | float | Fraction):
        raise Unfit
    size: Any = abs(number)
    if not size <= _LARGEST:
        raise Unfit("it must be a finite number")
    return number if type(number) is float else float(number)


def _take_bound(thing: Any) -> float:
    number = _scalar(thing)
    return number if isinstance(number, float) and math.isinf(number) else _take_float(thing)


def _take_flag(thing: Any) -> bool:
    if isinstance(thing, bool):
        return thing
    number = _scalar(thing)
    if isinstance(number, bool):
        return number
    if isinstance(number, int) and number in (0, 1):
        return bool(number)
    raise Unfit


def _take_text(thing: Any) -> str:
    if not isinstance(thing, str):
        raise Unfit
    return thing


def _take_path(thing: Any) -> Any:
    if not isinstance(thing, str | os.PathLike):
        raise Unfit
    text = os.fspath(thing)
    if not isinstance(text, str):
        raise Unfit("it is a path of bytes: os.fsdecode gives a text")
    if not text.strip() or "\0" in text:
        raise Unfit("it names no file")
    return thing if isinstance(thing, str | Path) else Path(text)


WHOLE = Kind("a whole number", _take_int)
NUMBER = Kind("a number", _take_float)
FLAG = Kind("True or False", _take_flag)
TEXT = Kind("a text", _take_text)
PATH = Kind("a path, such as 'results/run'", _take_path)


def limited(kind: Kind, expected: str, test: Callable[[Any], bool]) -> Kind:
    """Restrict a kind of numbers.

    Args:
        kind: The kind.
        expected: The numbers that remain, for messages.
        test: Returns whether a number remains.
    """

    def take(thing: Any) -> Any:
        number = kind.take(thing)
        if not test(number):
            raise Unfit
        return number

    return Kind(expected, take, kind.specific)


#: A number of things, at least one.
Count = Annotated[int, limited(WHOLE, "a whole number of at least 1", lambda n: 1 <= n < 2**63)]
#: A number of things, 0 included.
Natural = Annotated[int, limited(WHOLE, "a whole number of at least 0", lambda n: 0 <= n < 2**63)]
#: Seed of a generator.
Seed = Annotated[int, limited(WHOLE, "a whole number from 0 to 2**63 - 1", lambda n: 0 <= n < 2**63)]
#: A probability, such as the coverage of an interval.
Level = Annotated[float, limited(NUMBER, "a number between 0 and 1, such as 0.95", lambda x: 0 < x < 1)]
#: Effect in standard deviations below which an effect does not count.
Delta = Annotated[float, limited(NUMBER, "a number from 0 to 1000 (in standard deviations)", lambda x: 0 <= x <= 1000)]
#: A share, 0 and 1 included.
Share = Annotated[float, limited(NUMBER, "a number from 0 to 1", lambda x: 0 <= x <= 1)]
#: A bound, which may be infinite.
Bound = Annotated[float, Kind("a number, which may be infinite", _take_bound)]
#: A number above 0.
Positive = Annotated[float, limited(NUMBER, "a number above 0", lambda x: x > 0)]
#: A number of at least 0.
NonNegative = Annotated[float, limited(NUMBER, "a number of at least 0", lambda x: x >= 0)]


# ---------------------------------------------------------------- models


def _take_model(thing: Any, editable: bool = False) -> Any:
    if editable and hasattr(thing, "facts") and hasattr(thing, "hf"):
        return thing
    # `blocks` alone: weights in another basis (methods.rotated)
    if isinstance(thing, type) or not (hasattr(thing, "cfg") or hasattr(thing, "blocks")):
        raise Unfit(_model_hint(thing))
    return thing


def _model_hint(thing: Any) -> str:
    if isinstance(thing, str | os.PathLike):
        return f"load it first: nv.load({os.fspath(thing)!r})"
    if isinstance(thing, type):
        return "it is a class, not a model"
    if hasattr(thing, "forward") and hasattr(thing, "config"):
        return (
            "it is a transformers model: nv.edit_hf edits it as it is, and nv.load(FOLDER) reads it after "
            "model.save_pretrained(FOLDER) and tokenizer.save_pretrained(FOLDER)"
        )
    if hasattr(thing, "convert_tokens_to_ids"):
        return "it is a tokenizer"
    return ""


MODEL = Kind("a loaded model, as nv.load('demo') gives", _take_model, specific=True)
EDITABLE_MODEL = Kind(
    "a loaded model, as nv.load('demo') gives", functools.partial(_take_model, editable=True), specific=True
)
