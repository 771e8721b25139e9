"""edit(), edit_rows(): put edits on a model for the length of a `with` block, and take them off whatever happens.

The session knows which tokens of a forward pass are prompt and which are generated. Our own loops say so (`mark`);
where the user calls `model.generate` or the model itself, it is worked out: the first forward is the prompt, a forward of
one token after it is generated, a forward that repeats the one before and adds a token (no KV cache) is generated from
the prompt's end on. What cannot be told apart: a text of one token run after another forward counts as generated.

It also keeps what some edits and gates find out at the prompt's last token, row by row, for the text's later tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl import models
from neva_tl.editing.base import Change, Edit, Here, Scope
from neva_tl.editing.gate import RelevanceGate
from neva_tl.errors import InputError, WorkError

#: What is known of some prompts: by edit or gate, by name, one row per prompt.
Found = dict[Hashable, dict[str, Tensor]]


@dataclass
class EditSession:
    """State of one `with edit(...)` block.

    Attributes:
        edits: what is in force.
        record: keep the mask of touched tokens of every forward pass in `touched` (one `[b, n]` per forward).
        forwards: forward passes seen so far.
        active_scopes: token scopes of the edits that change activations (a prefix cache is right only when they are
            all `generated`); `all` is among them where an edit or a gate reads the prompt.
        condition_of: which condition each prompt belongs to, where `edit_rows` runs several in one batch.
    """

    edits: tuple[Edit, ...]
    record: bool = False
    touched: list[Bool[Tensor, "b n"]] = field(default_factory=list)
    forwards: int = 0
    active_scopes: frozenset[Scope] = frozenset()
    condition_of: Int[np.ndarray, " p"] | None = None
    _conditions: Tensor | None = None
    _pending: tuple[Tensor, Tensor] | None = None
    _generated: Tensor | None = None
    _mask: Tensor | None = None
    _end: Tensor | None = None
    _prompt_length: int = 0
    _input: Tensor | None = None
    _open: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    _fired: set[tuple[int, int]] = field(default_factory=set)
    _ever: set[tuple[int, int]] = field(default_factory=set)
    _sites: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    _held: Found = field(default_factory=dict)
    _goes_on: bool = False

    def mark(self, generated: Bool[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> None:
        """Say what the next forward pass holds: which tokens count as generated, and which are no padding."""
        self._pending = (generated.bool(), mask.bool())

    def begin(self, x: Float[Tensor, "b n d"]) -> None:
        """A forward pass starts (called by a hook on the first block's input `x`)."""
        batch, length = shape = (x.shape[0], x.shape[1])
        device, before = x.device, self._input
        self.forwards += 1
        self._fired.clear()
        self._open.clear()
        self._sites.clear()
        if self._pending is not None:
            generated, mask = (t.to(device) for t in self._pending)
            self._pending = None
            if generated.shape != (batch, length):
                raise WorkError(f"tokens were marked as {tuple(generated.shape)} but the forward pass has {shape}")
            self._prompt_length = length
        else:
            mask = torch.ones(shape, dtype=torch.bool, device=device)
            generated = torch.zeros(shape, dtype=torch.bool, device=device)
            if before is not None and length == 1 and len(before) == batch:
                generated |= True
            elif before is not None and x.shape[1] == before.shape[1] + 1 and torch.equal(x[:, :-1], before):
                generated[:, self._prompt_length :] = True
            else:
                self._prompt_length = length
        self._input = x.detach()
        self._generated, self._mask = generated, mask
        goes_on, self._goes_on = self._goes_on, False
        self._end = torch.full_like(mask[:, 0], -1, dtype=torch.long) if goes_on else self._ends(generated, mask)
        if bool((self._end >= 0).any()):
            self._held.clear()  # new texts
        if self.record:
            self.touched.append(torch.zeros(shape, dtype=torch.bool))

    def _ends(self, generated: Bool[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Int[Tensor, " b"]:
        """Place of each row's last prompt token (see `Here.end`)."""
        position = torch.arange(mask.shape[1], device=mask.device)
        end = torch.where(mask & ~generated, position, -1).amax(dim=1)
        if len(position) == 1 and self._held:
            return end  # a later token under the KV cache: its prompt was run before
        return torch.where(end < 0, mask.int().argmax(dim=1), end)

    def set_rows(self, prompts: Sequence[int]) -> None:
        """Say which prompts the rows of the coming forward passes are (our decoding loop does; matters to `edit_rows`)."""
        if self.condition_of is not None:
            self._conditions = torch.from_numpy(self.condition_of[np.asarray(prompts)])

    def keep_rows(self, index: Int[Tensor, " r"]) -> None:
        """Go on with some rows of the batch only (our decoding loop drops texts that have ended)."""
        if self._input is not None:
            self._input = self._input[index.to(self._input.device)]
        if self._conditions is not None:
            self._conditions = self._conditions[index.to(self._conditions.device)]
        for held in self._held.values():
            for name, kept in held.items():
                held[name] = kept[index.to(kept.device)]

    def found(self) -> Found:
        """What edits and gates worked out at the prompts of the last forward pass, a row each."""
        return {key: dict(held) for key, held in self._held.items()}

    def go_on(self, found: Found, index: Int[Tensor, " r"]) -> None:
        """Say that the rows of the next forward pass follow prompts run before; whatever they hold, no prompt is among it.

        Args:
            found: `found()` as it was after those prompts.
            index: the prompt of each row.
        """
        self._held = {
            key: {name: kept[index.to(kept.device)] for name, kept in held.items()} for key, held in found.items()
        }
        self._goes_on = True

    def rows_of(self, condition: int | None, x: Tensor) -> Int[Tensor, " r"] | None:
        """Rows of the running forward pass that belong to a condition; None stands for all of them."""
        if condition is None:
            return None
        if self._conditions is None or len(self._conditions) != x.shape[0]:
            raise WorkError(
                "several conditions in one batch need our own loops: nobody said which row belongs to which"
            )
        return (self._conditions == condition).nonzero().squeeze(1).to(x.device)

    def select(self, scope: Scope) -> Bool[Tensor, "b n"] | None:
        """Tokens of the running forward pass inside a scope; None stands for all of them."""
        if self._generated is None or self._mask is None:
            raise WorkError("an edit ran outside a forward pass of the whole model")
        if scope == "all":
            return None
        if scope == "generated":
            return self._generated & self._mask
        if scope == "prompt":
            return ~self._generated & self._mask
        # the prompt's end, and each generated token: the same tokens with the KV cache, without it, and when scored
        position = torch.arange(self._mask.shape[1], device=self._mask.device)
        prompt = self._mask & ~self._generated
        last = torch.where(prompt, position, -1).amax(dim=1, keepdim=True)
        return (position[None] == last) | (self._generated & self._mask)

    def see(self, layer: int, site: str, x: Tensor) -> None:
        """Keep an activation that a change at another site of the layer reads (called by a hook)."""
        self._sites[layer, site] = x

    def judge(self, gate: RelevanceGate, layer: int, h: Float[Tensor, "b n k"]) -> None:
        """Ask a gate about a layer's `hook_post`, before any edit there (called by a hook)."""
        opened = gate.open(layer, h)
        if gate.unit == "query":
            # one answer per text, given at its prompt's last token
            end = self._place(h)
            held = self._held.setdefault(("gate", id(gate)), {})
            if bool((end >= 0).all()):
                held[str(layer)] = opened.gather(1, end.clamp(min=0).to(opened.device)[:, None])
            opened = self._recalled(held, str(layer), h).expand(-1, h.shape[1])
        self._open[id(gate), layer] = opened

    def _place(self, x: Tensor) -> Tensor:
        if self._end is None:
            raise WorkError("an edit ran outside a forward pass of the whole model")
        return self._end.to(x.device)

    @staticmethod
    def _recalled(held: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
        """What was found out at the prompt, for the rows of this forward pass."""
        kept = held.get(name)
        if kept is None or len(kept) != x.shape[0]:
            raise WorkError("an edit or a gate that reads the prompt never saw it: run the prompt in the same block")
        return kept

    def _selected(self, change: Change, scope: Scope, gate: RelevanceGate | None) -> Bool[Tensor, "b n"] | None:
        """Tokens that a change touches: those of the scope that the gate opens; None stands for all."""
        selected = self.select(scope)
        if gate is None:
            return selected
        opened = self._open.get((id(gate), change.layer))
        if opened is None:
            raise WorkError(f"the gate of layer {change.layer} was not asked before the edit of site {change.site}")
        return opened if selected is None else selected & opened.to(selected.device)

    def applied(
        self,
        key: tuple[int, int],
        change: Change,
        scope: Scope,
        x: Tensor,
        width: int,
        gate: RelevanceGate | None = None,
        condition: int | None = None,
        owner: int = 0,
    ) -> Tensor:
        """The activation after one change, restricted to scope and gate, with shape and once-per-forward checked.

        Raises:
            WorkError: the hook point has another width than the model says, fired twice, or the edit changed the shape.
        """
        place = f"layer {change.layer}, site {change.site}"
        if key in self._fired:
            raise WorkError(
                f"the hook at {place} fired twice in one forward pass: this architecture cannot be edited safely"
            )
        self._fired.add(key)
        self._ever.add(key)
        if x.ndim != 3 or x.shape[-1] != width:
            raise WorkError(f"the activation at {place} has shape {tuple(x.shape)}, expected [batch, token, {width}]")
        rows = self.rows_of(condition, x)
        selected = self._selected(change, scope, gate)
        if change.needs:
            # worked out on all rows, so that what is held has one entry per text whoever they belong to
            new = self._informed(place, change, x, selected, self._held.setdefault(owner, {}))
            if rows is not None:
                return x.index_copy(0, rows, new.index_select(0, rows))
            self._record(selected)
            return new
        if rows is not None:
            part = x.index_select(0, rows)
            inside = None if selected is None else selected.index_select(0, rows)
            return x.index_copy(0, rows, self._changed(place, change, gate, part, inside)) if len(rows) else x
        self._record(selected)
        return self._changed(place, change, gate, x, selected)

    def _record(self, selected: Tensor | None) -> None:
        if self.record:
            assert self._mask is not None
            self.touched[-1] |= (self._mask if selected is None else selected).cpu()

    def _informed(
        self, place: str, change: Change, x: Tensor, selected: Tensor | None, held: dict[str, Tensor]
    ) -> Tensor:
        """The activation after a change that asks for more than the activation."""
        end = self._place(x)
        inside = end >= 0
        if selected is not None:
            inside = inside & selected.to(x.device).gather(1, end.clamp(min=0)[:, None]).squeeze(1)
        sites = {site: self._sites[change.layer, site] for site in change.needs if site != "prompt"}
        before = dict(held)
        new = change.apply(x, Here(end, inside, held, sites))
        for name, kept in held.items():
            if kept is not before.get(name) and len(kept) != x.shape[0]:
                raise WorkError(f"an edit at {place} holds {len(kept)} entries for {x.shape[0]} texts")
        return self._checked(place, x, new, selected)

    def _changed(
        self, place: str, change: Change, gate: RelevanceGate | None, x: Tensor, selected: Tensor | None
    ) -> Tensor:
        """The activation after a change at the selected tokens."""
        # a closed gate costs no arithmetic (on a GPU asking would cost more than the arithmetic)
        if selected is not None and gate is not None and x.device.type == "cpu" and not selected.any():
            return x
        return self._checked(place, x, change.apply(x), selected)

    @staticmethod
    def _checked(place: str, x: Tensor, new: Tensor, selected: Tensor | None) -> Tensor:
        if new.shape != x.shape:
            raise WorkError(f"an edit at {place} changed the shape {tuple(x.shape)} to {tuple(new.shape)}")
        return new if selected is None else torch.where(selected[..., None], new, x)

    def finish(self, expected: set[tuple[int, int]]) -> None:
        """After the block: every change must have run if the model did.

        Raises:
            WorkError: a hook never fired although forward passes were made.
        """
        if self.forwards and expected - self._ever:
            raise WorkError(f"{len(expected - self._ever)} edit hook(s) never fired in {self.forwards} forward passes")


@contextmanager
def edit(
    model: Any, *edits: Edit, record: bool = False, reuse: models.LayerCache | None = None
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
    with _in_force(model, session, [(item, None) for item in edits], reuse) as running:
        yield running


@contextmanager
def edit_rows(
    model: Any, conditions: Sequence[Sequence[Edit]], condition_of: Int[np.ndarray, " p"]
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
    with _in_force(model, session, flat) as running:
        yield running


@contextmanager
def _in_force(
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
        for position, (owner, item, condition, change) in enumerate(plan):
            key = (position, change.layer)
            expected.add(key)
            width = info.d_mlp if change.site in ("post", "gate", "pre") else info.d_model
            name = models.hook_name(model, change.layer, change.site)
            handle = models.add_hook(model, name, _apply(session, key, change, item, width, condition, owner))
            stack.callback(handle.remove)
        yield session
        session.finish(expected)


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
    def judge(x: Tensor, hook: Any = None) -> None:
        session.judge(gate, layer, x)

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
    def apply(x: Tensor, hook: Any = None) -> Tensor:
        return session.applied(key, change, item.scope, x, width, item.gate, condition, owner)

    return apply
