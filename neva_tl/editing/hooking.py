"""edit(), edit_rows(): apply edits to a model inside a `with` block and remove them afterwards, also on an error.

A token generated under the KV cache pays for additions only: constant steps at one hook point are fused to one addition, and
masks are only computed where a scope, a gate or a record needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.editing.base import Change, Edit, Scope, as_edits
from neva_tl.editing.call_reader import compiled_from, reading, uncompiled
from neva_tl.editing.constant import Constant
from neva_tl.editing.gate import RelevanceGate
from neva_tl.editing.session import EditSession
from neva_tl.models.hooks import temporary_hooks
from neva_tl.models.inference.session import registered
from neva_tl.models.resume import resumption


@contextmanager
@check_arguments
def edit(
    model: models.Model,
    *edits: Edit | Sequence[Edit] | None,
    record: bool = False,
    reuse: models.LayerCache | None = None,
) -> Iterator[EditSession]:
    """Apply edits to a model inside the block; they compose in the order given and are removed at its end, also on an error.

    Args:
        model: A TransformerLens model.
        *edits: The edits, or lists of them; at a shared hook point they act one after the other.
        record: Store which tokens were touched (`session.touched`).
        reuse: Cache of the input of the lowest edited layer: layers below it are not run again on tokens seen before. Hooks
            that you add inside the block do not see those layers.

    Yields:
        The session. The functions of `neva_tl` that run the model find it by themselves and mark prompt and generated tokens;
        calls of the model and its `generate` are read as `call_reader` describes.

    Raises:
        InputError: An edit does not fit the model, `reuse` belongs to another model, or another thread edits the model.

    Warns:
        RuntimeWarning: The block ended without a forward pass of the model.

    Example:
        >>> with nv.edit(model, edit):
        ...     edited = nv.generate(model, ["mara says that"], max_new_tokens=8)
        >>> nv.models.has_hooks(model)  # removed at the end of the block
        False
    """
    model = compiled_from(model)
    items = as_edits([item for edit in edits for item in as_edits(edit)])
    session = EditSession(edits=items, record=record)
    with in_force(model, session, [(item, None) for item in items], reuse) as running:
        yield running


@contextmanager
@check_arguments
def edit_rows(
    model: models.Model, conditions: Sequence[Sequence[Edit]], condition_of: Int[np.ndarray, " p"]
) -> Iterator[EditSession]:
    """Run several conditions in one batch: prompt p is edited by `conditions[condition_of[p]]` alone.

    For loops that tell the session which prompt each row is (`inference.generate(session=...)`). The texts equal those of one
    condition after the other, in fewer and fuller forward passes.

    Args:
        model: A TransformerLens model.
        conditions: The edits of each condition.
        condition_of: Index of each prompt's condition.

    Yields:
        The session.

    Example:
        >>> from neva_tl.editing import edit_rows
        >>> both = ["mara says that"] * 2
        >>> with edit_rows(model, [(), (edit,)], np.array([0, 1])) as session:
        ...     texts = nv.generate(model, both, max_new_tokens=8, session=session)
        >>> texts[0] == nv.generate(model, both[:1], max_new_tokens=8)[0]
        True
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
    """Hooks of some edits, each for the rows of its condition.

    Args:
        model: A TransformerLens model, or a `PlainModel`.
        session: The session that the hooks report to.
        edits: Each edit with the index of its condition, None for all rows.
        reuse: See `edit`.

    Yields:
        The session.

    Raises:
        InputError: An edit does not fit the model, or `reuse` belongs to another model.
    """
    info = models.info(model)
    plan = [
        (owner, item, condition, change)
        for owner, (item, condition) in enumerate(edits)
        for change in item.changes(model)
    ]
    pairs = [(item, change) for _, item, _, change in plan]
    session.reads_prompts = any(_reads_prompt(item, change) for item, change in pairs)
    session.reads_tokens = any("tokens" in change.needs for _, change in pairs)
    session.active_scopes = frozenset(item.scope for item, _ in pairs) | ({"all"} if session.reads_prompts else set())
    hooks: list[tuple[int, str, Callable[..., Tensor | None]]] = []
    if plan:
        hooks.append((0, "resid_pre", _begin(session)))
    reads = {(change.layer, site) for *_, change in plan for site in change.reads}
    hooks += [(layer, site, _site_recorder(session, layer, site)) for layer, site in sorted(reads)]
    # gates read hook_post as the layers below left it, before any edit of that layer
    hooks += [(layer, "post", _gate_recorder(session, gate, layer)) for gate, layer in _gates(pairs)]
    expected: set[tuple[int, int]] = set()
    for position, (owner, item, condition, change) in enumerate(_fused(plan, lambda site: _width(info, site))):
        key = (position, change.layer)
        expected.add(key)
        apply = _applier(session, key, change, item, _width(info, change.site), condition, owner)
        hooks.append((change.layer, change.site, apply))
    if isinstance(model, models.PlainModel):
        hooks = [(layer, site, _by_text(session, hook)) for layer, site, hook in hooks]
    session.expected = expected
    lowest = min((change.layer for *_, change in plan), default=0)
    if plan and not isinstance(model, models.PlainModel):
        _refuse_skipped(model, lowest)
    with (
        registered(model.hf if isinstance(model, models.PlainModel) else model, session),
        nullcontext() if reuse is None else models.resuming(model, reuse, lowest),
        uncompiled() if plan else nullcontext(),
        reading(model, session) if plan else nullcontext(),
        temporary_hooks(model, [(models.hook_name(model, layer, site), hook) for layer, site, hook in hooks]),
    ):
        try:
            yield session
            session.finish(expected)
        finally:
            session.close()


def _refuse_skipped(model: models.Model, lowest: int) -> None:
    """Refuse an edit below the layer at which an outer block resumes passes: that layer would not run."""
    outer = resumption(model)
    if outer is not None and lowest < outer.layer:
        raise InputError(
            f"an outer block starts its passes at layer {outer.layer} (reuse=...), and this edit changes layer {lowest}, "
            "which does not run there: open it without `reuse`"
        )


#: One change of an active edit: index of the edit, the edit, its condition, the change.
Planned = tuple[int, Edit, int | None, Change]


def _fused(plan: Sequence[Planned], width: Callable[[str], int]) -> list[Planned]:
    """The plan with the constant steps of one hook point, scope, gate and condition fused to one change.

    Constant steps commute; only a change of another kind between two of them keeps them apart.
    """
    out: list[Planned] = []
    # by hook point: index in `out` of each kind of constant step, since the last change of another kind
    running: dict[tuple[int, str], dict[tuple[Scope, int, int | None], int]] = {}
    for owner, item, condition, change in plan:
        steps = running.setdefault((change.layer, change.site), {})
        kind = (item.scope, id(item.gate), condition)
        if not isinstance(change.apply, Constant):
            steps.clear()
        elif kind in steps:
            first_owner, first_item, _, before = out[steps[kind]]
            both = replace(before, apply=before.apply.plus(change.apply, width(change.site)))  # type: ignore[attr-defined]
            out[steps[kind]] = (first_owner, first_item, condition, both)
            continue
        else:
            steps[kind] = len(out)
        out.append((owner, item, condition, change))
    return out


def _width(info: models.ModelInfo, site: str) -> int:
    return info.d_mlp if site in ("post", "gate", "pre", "up") else info.d_model


def _reads_prompt(item: Edit, change: Change) -> bool:
    """Whether a change or its gate computes something at the prompt."""
    return "prompt" in change.needs or (item.gate is not None and item.gate.unit == "query")


def _gates(plan: list[tuple[Edit, Change]]) -> list[tuple[RelevanceGate, int]]:
    """Each gate with each layer that a gated edit changes, once.

    Raises:
        InputError: A gated edit changes a site that comes before `hook_post`, which the gate reads.
    """
    gates: dict[tuple[int, int], tuple[RelevanceGate, int]] = {}
    for item, change in plan:
        if item.gate is None:
            continue
        if change.site not in ("post", "mlp_out", "resid_post"):
            raise InputError(f"a gate reads hook_post: it cannot gate an edit of {change.site}, which comes before")
        gates[id(item.gate), change.layer] = (item.gate, change.layer)
    return list(gates.values())


def _begin(session: EditSession) -> Callable[..., None]:
    def begin(x: Tensor, **_: Any) -> None:
        session.begin(x)

    return begin


def _by_text(session: EditSession, hook: Callable[..., Tensor | None]) -> Callable[..., Tensor | None]:
    """`hook` on `[b, n, d]` in a module that sees all tokens of a pass in one dimension (OPT's MLP)."""

    def apply(x: Tensor, **options: Any) -> Tensor | None:
        shape = session.roles.shape
        if x.ndim != 2 or shape is None or len(x) != shape[0] * shape[1]:
            return hook(x, **options)
        new = hook(x.unflatten(0, shape), **options)
        return None if new is None else new.flatten(0, 1)

    return apply


def _site_recorder(session: EditSession, layer: int, site: str) -> Callable[..., None]:
    def record(x: Tensor, **_: Any) -> None:
        session.record_site(layer, site, x)

    return record


def _gate_recorder(session: EditSession, gate: RelevanceGate, layer: int) -> Callable[..., None]:
    opened = gate.at_layer(layer)

    def record(x: Tensor, **_: Any) -> None:
        session.record_gate(gate, layer, x, opened(x))

    return record


def _applier(
    session: EditSession,
    key: tuple[int, int],
    change: Change,
    item: Edit,
    width: int,
    condition: int | None,
    owner: int,
) -> Callable[..., Tensor]:
    always = isinstance(change.apply, Constant) and item.gate is None and condition is None and not session.record
    roles = session.roles

    def apply(x: Tensor, **_: Any) -> Tensor:
        # the common case of a step under the KV cache, with the same checks and half of the calls
        if always and roles.covered(item.scope) and x.ndim == 3 and x.shape[-1] == width and session.first(key):
            return change.apply(x)
        return session.applied(key, change, item.scope, x, width, item.gate, condition, owner)

    return apply
