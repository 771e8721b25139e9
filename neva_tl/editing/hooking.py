"""edit(), edit_rows(): put edits on a model for the length of a `with` block, and take them off whatever happens.

A token written under the KV cache costs what its additions cost: constant steps at one hook point are one addition, and masks
are only made where a scope, a gate or a record asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing.base import Change, Edit, Scope
from neva_tl.editing.constant import Constant
from neva_tl.editing.gate import RelevanceGate
from neva_tl.editing.session import EditSession


@contextmanager
def edit(
    model: models.Model, *edits: Edit, record: bool = False, reuse: models.LayerCache | None = None
) -> Iterator[EditSession]:
    """Put edits on a model; they compose in the order given and are removed on leaving the block, error or not.

    Args:
        model: a TransformerLens model.
        edits: at hook points they share, they act one after the other.
        record: remember which tokens were touched (`session.touched`).
        reuse: layers below the lowest edited one are not run again where this cache saw the same tokens before; hooks that
            you add inside the block do not see those layers.

    Yields:
        The session; our own loops mark its tokens, `session.touched` says what was edited.

    Raises:
        InputError: an edit does not fit the model, or `reuse` was made for another.
    """
    session = EditSession(edits=tuple(edits), record=record)
    with in_force(model, session, [(item, None) for item in edits], reuse) as running:
        yield running


@contextmanager
def edit_rows(
    model: models.Model, conditions: Sequence[Sequence[Edit]], condition_of: Int[np.ndarray, " p"]
) -> Iterator[EditSession]:
    """Several conditions side by side in one batch: prompt p is edited by `conditions[condition_of[p]]` alone.

    For our own loops, which tell the session whose row is whose (`inference.generate(session=...)`). Same texts as one
    condition after the other, in fewer and fuller forward passes.

    Args:
        model: a TransformerLens model.
        conditions: the edits of each condition.
        condition_of: per prompt the number of its condition.
    """
    flat = [(item, number) for number, edits in enumerate(conditions) for item in edits]
    session = EditSession(edits=tuple(item for item, _ in flat), condition_of=np.asarray(condition_of, dtype=np.int64))
    with in_force(model, session, flat) as running:
        yield running


@contextmanager
def in_force(
    model: Any,
    session: EditSession,
    edits: Sequence[tuple[Edit, int | None]],
    reuse: models.LayerCache | None = None,
) -> Iterator[EditSession]:
    """Hooks of some edits, each for the rows of its condition (None: for all rows)."""
    info = models.info(model)
    expected: set[tuple[int, int]] = set()
    with ExitStack() as stack:
        plan = [
            (owner, item, condition, change)
            for owner, (item, condition) in enumerate(edits)
            for change in item.changes(model)
        ]
        session.active_scopes = _scopes([(item, change) for _, item, _, change in plan])
        if reuse is not None:
            lowest = min((change.layer for *_, change in plan), default=0)
            stack.enter_context(models.resuming(model, reuse, lowest))
        if plan:
            handle = models.add_hook(model, models.hook_name(model, 0, "resid_pre"), _begin(session))
            stack.callback(handle.remove)
        reads = {(change.layer, site) for *_, change in plan for site in change.needs if site != "prompt"}
        for layer, site in sorted(reads):
            handle = models.add_hook(model, models.hook_name(model, layer, site), _see(session, layer, site))
            stack.callback(handle.remove)
        # gates read hook_post as the layers below left it, before any edit of that layer
        for gate, layer in _gates([(item, change) for _, item, _, change in plan]):
            handle = models.add_hook(model, models.hook_name(model, layer, "post"), _judge(session, gate, layer))
            stack.callback(handle.remove)
        for position, (owner, item, condition, change) in enumerate(_fused(plan, lambda site: _width(info, site))):
            key = (position, change.layer)
            expected.add(key)
            name = models.hook_name(model, change.layer, change.site)
            width = _width(info, change.site)
            handle = models.add_hook(model, name, _apply(session, key, change, item, width, condition, owner))
            stack.callback(handle.remove)
        yield session
        session.finish(expected)


#: One change of an edit in force: the edit's number, the edit, its condition, the change.
Planned = tuple[int, Edit, int | None, Change]


def _fused(plan: Sequence[Planned], width: Callable[[str], int]) -> list[Planned]:
    """The plan with the constant steps of one hook point, scope, gate and condition as one change each.

    Steps add up in any order, so that only a change of another kind between two of them keeps them apart.
    """
    out: list[Planned] = []
    # by hook point: where in `out` each kind of constant step stands, since the last change that is none
    running: dict[tuple[int, str], dict[tuple[Scope, int, int | None], int]] = {}
    for owner, item, condition, change in plan:
        here = running.setdefault((change.layer, change.site), {})
        kind = (item.scope, id(item.gate), condition)
        if not isinstance(change.apply, Constant):
            here.clear()
        elif kind in here:
            first, its, _, before = out[here[kind]]
            both = replace(before, apply=before.apply.plus(change.apply, width(change.site)))  # type: ignore[attr-defined]
            out[here[kind]] = (first, its, condition, both)
            continue
        else:
            here[kind] = len(out)
        out.append((owner, item, condition, change))
    return out


def _width(info: Any, site: str) -> int:
    return info.d_mlp if site in ("post", "gate", "pre", "up") else info.d_model


def _begin(session: EditSession) -> Callable[..., None]:
    def begin(x: Tensor, hook: Any = None) -> None:
        session.begin(x)

    return begin


def _scopes(plan: list[tuple[Edit, Change]]) -> frozenset[Scope]:
    """Scopes of some changes; `all` where one of them, or its gate, reads the prompt."""
    scopes: set[Scope] = {item.scope for item, _ in plan}
    if any("prompt" in change.needs or (item.gate is not None and item.gate.unit == "query") for item, change in plan):
        scopes.add("all")
    return frozenset(scopes)


def _see(session: EditSession, layer: int, site: str) -> Callable[..., None]:
    def see(x: Tensor, hook: Any = None) -> None:
        session.see(layer, site, x)

    return see


def _gates(plan: list[tuple[Edit, Change]]) -> list[tuple[RelevanceGate, int]]:
    """Each gate with each layer that an edit behind it changes, once.

    Raises:
        InputError: an edit behind a gate changes a site that comes before `hook_post`, which the gate reads.
    """
    found: dict[tuple[int, int], tuple[RelevanceGate, int]] = {}
    for item, change in plan:
        if item.gate is None:
            continue
        if change.site not in ("post", "mlp_out", "resid_post"):
            raise InputError(f"a gate reads hook_post: it cannot gate an edit of {change.site}, which comes before")
        found[id(item.gate), change.layer] = (item.gate, change.layer)
    return list(found.values())


def _judge(session: EditSession, gate: RelevanceGate, layer: int) -> Callable[..., None]:
    opened = gate.at_layer(layer)

    def judge(x: Tensor, hook: Any = None) -> None:
        session.judge(gate, layer, x, opened(x))

    return judge


def _apply(
    session: EditSession,
    key: tuple[int, int],
    change: Change,
    item: Edit,
    width: int,
    condition: int | None,
    owner: int,
) -> Callable[..., Tensor]:
    always = isinstance(change.apply, Constant) and item.gate is None and condition is None and not session.record

    def apply(x: Tensor, hook: Any = None) -> Tensor:
        # the common case of a step under the KV cache, with the same checks and half of the calls
        if always and session.whole(item.scope) and x.ndim == 3 and x.shape[-1] == width and session.first(key):
            return change.apply(x)
        return session.applied(key, change, item.scope, x, width, item.gate, condition, owner)

    return apply
