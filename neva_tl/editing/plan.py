"""plan_of(): the changes of some edits as functions of hook points, independent of any session.

Blocks (`edit`, `edit_hf`) run a plan for one session, handles (`attach`) for one session per thread. Constant steps at one hook
point are fused to one addition, and masks are only computed where a scope, a gate or a record needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from neva_tl import models
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.editing.base import Change, Edit, Scope
from neva_tl.editing.constant import Constant
from neva_tl.editing.gate import RelevanceGate
from neva_tl.editing.session import EditSession

#: A function of a hook point: the running session and the activation; the tensor that it returns replaces the activation.
Hook = Callable[[EditSession, Tensor], "Tensor | None"]

#: One change of an active edit: index of the edit, the edit, its condition, the change.
Planned = tuple[int, Edit, int | None, Change]


@dataclass(frozen=True, eq=False)
class Plan:
    """Functions of hook points, in the order in which they act.

    Attributes:
        hooks: Layer, site and function.
        expected: Keys of all changes: position in the plan, and layer.
        active_scopes: See `EditSession`.
        reads_prompts: See `EditSession`.
        reads_tokens: See `EditSession`.
        lowest: The lowest edited layer.
    """

    hooks: tuple[tuple[int, str, Hook], ...]
    expected: frozenset[tuple[int, int]]
    active_scopes: frozenset[Scope]
    reads_prompts: bool
    reads_tokens: bool
    lowest: int

    __repr__ = brief

    @property
    def points(self) -> tuple[tuple[int, str], ...]:
        """Layer and site of each function."""
        return tuple((layer, site) for layer, site, _ in self.hooks)

    def prepare(self, session: EditSession) -> None:
        """Set what a session must know of the plan that reports to it.

        Args:
            session: The session.
        """
        session.reads_prompts, session.reads_tokens = self.reads_prompts, self.reads_tokens
        session.active_scopes, session.expected = self.active_scopes, set(self.expected)


def plan_of(model: models.EditableModel, edits: Sequence[tuple[Edit, int | None]]) -> Plan:
    """Plan some edits, each for the rows of its condition.

    Args:
        model: A TransformerLens model, or a `PlainModel`.
        edits: Each edit with the index of its condition, None for all rows.

    Raises:
        InputError: An edit does not fit the model.
    """
    info = models.info(model)
    planned = [
        (owner, item, condition, change)
        for owner, (item, condition) in enumerate(edits)
        for change in item.changes(model)
    ]
    pairs = [(item, change) for _, item, _, change in planned]
    reads_prompts = any(_reads_prompt(item, change) for item, change in pairs)
    hooks: list[tuple[int, str, Hook]] = []
    if planned:
        hooks.append((0, "resid_pre", _begin))
    reads = {(change.layer, site) for *_, change in planned for site in change.reads}
    hooks += [(layer, site, _site_recorder(layer, site)) for layer, site in sorted(reads)]
    # gates read hook_post as the layers below left it, before any edit of that layer
    hooks += [(layer, "post", _gate_recorder(gate, layer)) for gate, layer in _gates(pairs)]
    expected: set[tuple[int, int]] = set()
    for position, (owner, item, condition, change) in enumerate(_fused(planned, lambda site: _width(info, site))):
        key = (position, change.layer)
        expected.add(key)
        apply = _applier(key, change, item, _width(info, change.site), condition, owner)
        hooks.append((change.layer, change.site, apply))
    if isinstance(model, models.PlainModel):
        hooks = [(layer, site, _by_text(hook)) for layer, site, hook in hooks]
    return Plan(
        tuple(hooks),
        frozenset(expected),
        frozenset(item.scope for item, _ in pairs) | (frozenset({"all"}) if reads_prompts else frozenset()),
        reads_prompts,
        any("tokens" in change.needs for _, change in pairs),
        min((change.layer for *_, change in planned), default=0),
    )


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


def _begin(session: EditSession, x: Tensor) -> None:
    session.begin(x)


def _by_text(hook: Hook) -> Hook:
    """`hook` on `[b, n, d]` in a module that sees all tokens of a pass in one dimension (OPT's MLP)."""

    def apply(session: EditSession, x: Tensor) -> Tensor | None:
        shape = session.roles.shape
        if x.ndim != 2 or shape is None or len(x) != shape[0] * shape[1]:
            return hook(session, x)
        new = hook(session, x.unflatten(0, shape))
        return None if new is None else new.flatten(0, 1)

    return apply


def _site_recorder(layer: int, site: str) -> Hook:
    def record(session: EditSession, x: Tensor) -> None:
        session.record_site(layer, site, x)

    return record


def _gate_recorder(gate: RelevanceGate, layer: int) -> Hook:
    opened = gate.at_layer(layer)

    def record(session: EditSession, x: Tensor) -> None:
        session.record_gate(gate, layer, x, opened(x))

    return record


def _applier(key: tuple[int, int], change: Change, item: Edit, width: int, condition: int | None, owner: int) -> Hook:
    always = isinstance(change.apply, Constant) and item.gate is None and condition is None

    def apply(session: EditSession, x: Tensor) -> Tensor:
        # the common case of a step under the KV cache, with the same checks and half of the calls
        if (
            always
            and not session.record
            and session.roles.covered(item.scope)
            and x.ndim == 3
            and x.shape[-1] == width
            and session.first(key)
        ):
            return change.apply(x)
        return session.applied(key, change, item.scope, x, width, item.gate, condition, owner)

    return apply
