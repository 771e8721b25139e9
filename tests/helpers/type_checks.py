"""Checks of types at run time: beartype for every function of a package, jaxtyping's shapes for those that name one.

jaxtyping's own import hook binds the signature and checks the arguments twice in every call of every function, because a body
may hold a shape too. Here, a function whose annotations name no shape goes to beartype alone, except in the modules of
`SHAPES_IN_BODIES`: the same types are checked, and a study's tests take a fifth less.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jaxtyping
from beartype import BeartypeConf


def install(package: str) -> None:
    """Check the types of all modules of a package that are imported from now on."""
    jaxtyping.install_import_hook(package, "beartype.beartype")
    jaxtyping.jaxtyped = _jaxtyped  # the code that the hook adds to a module takes it from here


_SHAPES = jaxtyping.jaxtyped
#: A wrong type is a `TypeError` either way.
CONF = BeartypeConf(violation_type=jaxtyping.TypeCheckError)
#: Modules that compare an object with any annotation: each call has dimensions of its own, not its caller's.
SHAPES_IN_BODIES = ("neva_tl.core.annotations", "neva_tl.core.kinds")


def _jaxtyped(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    def decorate(thing: Any) -> Any:
        if not inspect.isfunction(thing) or thing.__module__ in SHAPES_IN_BODIES:
            return _SHAPES(typechecker=typechecker)(thing)
        written = thing.__annotations__
        hints = {name: _evaluated(hint, thing.__globals__) for name, hint in written.items()}
        if any(_names_shape(hint) for hint in hints.values()):
            return _SHAPES(typechecker=typechecker)(thing)
        thing.__annotations__ = hints
        try:
            checked = typechecker(thing, conf=CONF)
        finally:
            thing.__annotations__ = written
        checked.__annotations__ = written
        return checked

    return decorate


def _evaluated(hint: Any, scope: dict[str, Any]) -> Any:
    """An annotation as an object; `Any` for a name that only type checkers know, as jaxtyping has it."""
    if not isinstance(hint, str):
        return hint
    try:
        if "'" not in hint and '"' not in hint:
            return eval(hint, scope)  # the quicker way
        return typing.get_type_hints(SimpleNamespace(__annotations__={"hint": hint}), scope, include_extras=True)[
            "hint"
        ]
    except Exception:
        return Any


def _names_shape(hint: Any) -> bool:
    if isinstance(hint, (list, tuple)):  # the arguments of a Callable
        return any(map(_names_shape, hint))
    return type(hint).__module__.startswith("jaxtyping") or any(map(_names_shape, typing.get_args(hint)))
