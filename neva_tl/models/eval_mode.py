"""Evaluation mode for the length of a pass: no dropout, whatever mode the user left the model in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from neva_tl.models.facts import MEMO
from neva_tl.models.types import Model


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Put every module in evaluation mode inside the block, and give each its own mode back."""
    # listed once: going through all modules takes as long as a small pass
    spaces = MEMO.get(model, "module namespaces", lambda: _namespaces(model))
    training = [space for space in spaces if space["training"]]
    if not training:
        yield
        return
    # in the instance's dict: setting an attribute of a bridge sets it on the wrapped module
    for space in training:
        space["training"] = False
    try:
        yield
    finally:
        for space in training:
            space["training"] = True


def _namespaces(model: Model) -> list[dict[str, Any]]:
    wrapped = getattr(model, "original_model", None)
    modules = chain(model.modules(), wrapped.modules() if wrapped is not None else ())
    distinct = {id(module): module for module in modules if type(module).__name__ != "HookPoint"}
    return [vars(module) for module in distinct.values() if "training" in vars(module)]
