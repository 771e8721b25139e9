"""edit(), edit_rows(): apply edits to a model inside a `with` block and remove them afterwards, also on an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.editing.base import Edit, as_edits
from neva_tl.editing.eager import compiled_from
from neva_tl.editing.model_calls import reading
from neva_tl.editing.plan import Hook, plan_of
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
    outer: Sequence[Any] = (),
) -> Iterator[EditSession]:
    """Hooks of some edits, each for the rows of its condition.

    Args:
        model: A TransformerLens model, or a `PlainModel`.
        session: The session that the hooks report to.
        edits: Each edit with the index of its condition, None for all rows.
        reuse: See `edit`.
        outer: Objects that wrap the model (see `model_calls.reading`).

    Yields:
        The session.

    Raises:
        InputError: An edit does not fit the model, or `reuse` belongs to another model.
    """
    plan = plan_of(model, edits)
    plan.prepare(session)
    is_plain = isinstance(model, models.PlainModel)
    if plan.hooks and not is_plain:
        _refuse_skipped(model, plan.lowest)
    names = [(models.hook_name(model, layer, site), hook) for layer, site, hook in plan.hooks]
    with (
        registered(model.hf if is_plain else model, session),
        nullcontext() if reuse is None else models.resuming(model, reuse, plan.lowest),
        reading(model, session, outer=outer, points=[name for name, _ in names]) if names else nullcontext(),
        temporary_hooks(model, [(name, _bound(hook, session)) for name, hook in names]),
    ):
        try:
            yield session
            session.finish(session.expected)
        finally:
            session.close()


def _bound(hook: Hook, session: EditSession) -> Callable[..., Tensor | None]:
    def run(x: Tensor, **_: Any) -> Tensor | None:
        return hook(session, x)

    return run


def _refuse_skipped(model: models.Model, lowest: int) -> None:
    """Refuse an edit below the layer at which an outer block resumes passes: that layer would not run."""
    outer = resumption(model)
    if outer is not None and lowest < outer.layer:
        raise InputError(
            f"an outer block starts its passes at layer {outer.layer} (reuse=...), and this edit changes layer {lowest}, "
            "which does not run there: open it without `reuse`"
        )
