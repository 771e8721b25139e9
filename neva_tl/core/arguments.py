"""Check and convert the arguments of public calls: a user's mistake ends in one line that says what to pass.

`@check_arguments` reads the annotations of a function. It accepts what a user would pass in good faith (a numpy or torch scalar
for a number, a list, an array or a generator for a sequence, one name for a list of names, other spellings of a name) and
converts it to the annotated type; everything else raises `InputError` before any work. `CheckedArguments` does the same for
the constructor of a class. Limits of a number stand in its annotation: `n_boot: Count`, `level: Level`.

The decorator stands outside of a type checker that wraps the function itself (the tests run one), so both see the same types.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from abc import ABCMeta
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from neva_tl.core.annotations import kind_of
from neva_tl.core.errors import InputError
from neva_tl.core.kinds import Count, Kind, Level, Positive, Seed, Unfit
from neva_tl.core.names import describe, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


#: Limits of the parameters that have one meaning everywhere.
_BY_NAME: dict[str, Any] = {
    "seed": Seed,
    "n_boot": Count,
    "n_permutations": Count,
    "permutations": Count,
    "draws": Count,
    "batch_size": Count,
    "token_budget": Count,
    "most": Count,
    "level": Level,
    "C": Positive,
}


def _of_parameter(name: str, annotation: Any) -> Kind | None:
    """Return what a parameter accepts, by its annotation and, for a bare number, by its name."""
    limit = _BY_NAME.get(name)
    if limit is not None and annotation in (int, float):
        return kind_of(limit)
    if limit is not None and annotation in (int | None, float | None):
        return kind_of(limit | None)
    return kind_of(annotation)


@dataclass(frozen=True)
class _Seam:
    """Signature of a public call and the kinds of its parameters."""

    name: str
    signature: inspect.Signature
    kinds: dict[str, Kind]

    @classmethod
    def of(cls, name: str, function: Callable[..., Any]) -> _Seam:
        raw = inspect.unwrap(function)
        signature = inspect.signature(raw)
        scope = getattr(raw, "__globals__", {})
        kinds = {}
        for parameter in signature.parameters.values():
            kind = _of_parameter(parameter.name, _evaluated(parameter.annotation, scope))
            if kind is not None:
                kinds[parameter.name] = kind
        return cls(name, signature, kinds)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments | None:
        """Bind and convert the arguments; None where they do not fit the signature (Python's own error tells more)."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            unknown = [name for name in kwargs if name not in self.signature.parameters]
            if unknown and "unexpected keyword" in str(error):
                names = [name for name in self.signature.parameters if name != "self"]
                raise InputError(
                    f"{self.name} has no option {unknown[0]!r}: {did_you_mean(unknown[0], names)}it takes {', '.join(names)}"
                ) from None
            return None
        for name, argument in bound.arguments.items():
            kind, parameter = self.kinds.get(name), self.signature.parameters[name]
            if kind is None or argument is parameter.default:
                continue
            if parameter.kind is parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(self._taken(name, kind, item, bound) for item in argument)
            elif parameter.kind is parameter.VAR_KEYWORD:
                bound.arguments[name] = {key: self._taken(key, kind, item, bound) for key, item in argument.items()}
            else:
                bound.arguments[name] = self._taken(name, kind, argument, bound)
        return bound

    def _taken(self, name: str, kind: Kind, argument: Any, bound: inspect.BoundArguments) -> Any:
        try:
            return kind.take(argument)
        except Unfit as error:
            hint = str(error)
        except (RecursionError, OverflowError) as error:
            hint = type(error).__name__
        if kind.specific and (other := self._swapped(name, kind, argument, bound)):
            hint = f"are {name} and {other} swapped?"
        raise InputError(
            f"{name} of {self.name} is {describe(argument)}: pass {kind.expected}{f' ({hint})' if hint else ''}"
        ) from None

    def _swapped(self, name: str, kind: Kind, argument: Any, bound: inspect.BoundArguments) -> str:
        for other, candidate in bound.arguments.items():
            other_kind = self.kinds.get(other)
            if other == name or other_kind is None or not other_kind.specific:
                continue
            if _fits(kind, candidate) and _fits(other_kind, argument):
                return other
        return ""


def _fits(kind: Kind, thing: Any) -> bool:
    try:
        kind.take(thing)
    except Unfit:
        return False
    return True


def _evaluated(annotation: Any, scope: Mapping[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(scope))
    except (NameError, AttributeError, TypeError, SyntaxError):  # a name for type checkers only
        return Any


def check_arguments(function: F) -> F:
    """Check and convert the arguments of a public function by its annotations.

    Args:
        function: The function, or a method.

    Raises:
        InputError: From the decorated function: an argument is not what it takes.
    """
    seam: list[_Seam] = []
    label = function.__qualname__

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if not seam:  # at the first call: the module that defines the annotations is complete then
            seam.append(_Seam.of(f"{label}()", function))
        bound = seam[0].bind(args, kwargs)
        return function(*args, **kwargs) if bound is None else function(*bound.args, **bound.kwargs)

    return typing.cast(F, checked)


class CheckedArguments(ABCMeta):
    """Metaclass of dataclasses whose constructor checks and converts its arguments as `check_arguments` does."""

    _seams: typing.ClassVar[dict[type, _Seam]] = {}

    def __call__(cls: type[T], *args: Any, **kwargs: Any) -> T:  # type: ignore[misc]
        """Make an instance."""
        seam = CheckedArguments._seams.get(cls)
        if seam is None:
            seam = CheckedArguments._seams[cls] = _class_seam(cls)
        bound = seam.bind((None, *args), kwargs)
        if bound is None:
            return typing.cast(T, type.__call__(cls, *args, **kwargs))
        return typing.cast(T, type.__call__(cls, *bound.args[1:], **bound.kwargs))


def _class_seam(cls: type) -> _Seam:
    """Read the kinds of a class's fields, each in the module that defines it."""
    signature = inspect.signature(inspect.unwrap(cls.__init__))  # type: ignore[misc]
    kinds: dict[str, Kind] = {}
    for base in reversed(cls.__mro__):
        scope = vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {}
        for name, annotation in inspect.get_annotations(base).items():
            kind = _of_parameter(name, _evaluated(annotation, scope))
            kinds.pop(name, None)
            if kind is not None and name in signature.parameters:
                kinds[name] = kind
    return _Seam(cls.__name__, signature, kinds)
