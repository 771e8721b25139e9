"""Which methods a report speaks of first: the main method, and the one it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neva_tl.core.method_records import METHODS
from neva_tl.plots.style import method_order

Methods = Mapping[str, Mapping[str, Any]]


def family(method: str) -> str:
    """Return the family of a method; `unknown` for one that is not registered.

    Args:
        method: A name in results.json; `role_prompt` is an older name of `role`.
    """
    record = METHODS.get("role" if method == "role_prompt" else method)
    return "unknown" if record is None else record.family


def main_method(methods: Methods) -> str | None:
    """Return the first method that edits neurons, else the first other one that is not a placebo; None without any.

    Args:
        methods: Entry `methods` of results.json.
    """
    return _first(methods, ("neurons", "vectors", "unknown", "prompt"))


def peer_method(methods: Methods) -> str | None:
    """Return the method that the main one is compared with: the first steering vector, else another one; None without any.

    Args:
        methods: Entry `methods` of results.json.
    """
    main = main_method(methods)
    others = {name: entry for name, entry in methods.items() if name != main}
    return _first(others, ("vectors", "prompt", "neurons", "unknown"))


def _first(methods: Methods, families: tuple[str, ...]) -> str | None:
    for group in families:
        for name in method_order(methods):
            if family(name) == group:
                return name
    return None
