"""EditSession: what is known of the forward passes that run under an edit.

The session knows which tokens of a forward pass are prompt and which are generated. Our own loops say so (`mark`);
where the user calls `model.generate` or the model itself, it is worked out: the first forward is the prompt, a forward of
one token after it is generated, a forward that repeats the one before and adds a token (no KV cache) is generated from
the prompt's end on. What cannot be told apart: a text of one token run after another forward counts as generated.

It also keeps what some edits and gates find out at the prompt's last token, row by row, for the text's later tokens.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl.core.errors import WorkError
from neva_tl.editing.base import Change, Edit, Here, Scope
from neva_tl.editing.constant import Constant
from neva_tl.editing.gate import RelevanceGate

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
        only_marked: refuse a forward pass that nobody marked, instead of working out what it holds.
    """

    edits: tuple[Edit, ...]
    record: bool = False
    touched: list[Bool[Tensor, "b n"]] = field(default_factory=list)
    forwards: int = 0
    active_scopes: frozenset[Scope] = frozenset()
    condition_of: Int[np.ndarray, " p"] | None = None
    only_marked: bool = False
    _conditions: Tensor | None = None
    _pending: tuple[Tensor, Tensor] | Literal["new"] | None = None
    _marks: tuple[Tensor, Tensor] | None = None
    _start: int | None = None
    _end: Tensor | None = None
    _later: bool = False
    _prompt_length: int = 0
    _input: Tensor | None = None
    _open: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    _fired: set[tuple[int, int]] = field(default_factory=set)
    _ever: set[tuple[int, int]] = field(default_factory=set)
    _sites: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    _inside: dict[tuple[Scope, torch.device], Tensor] = field(default_factory=dict)
    _held: Found = field(default_factory=dict)
    _goes_on: bool = False

    def mark(self, generated: Bool[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> None:
        """Say what the next forward pass holds: which tokens count as generated, and which are no padding."""
        self._pending = (generated.bool(), mask.bool())

    def mark_new(self) -> None:
        """Say that the next forward pass holds generated tokens alone, without padding (a step under the KV cache)."""
        self._pending = "new"

    @property
    def marked(self) -> bool:
        """Whether somebody has said what the next forward pass holds."""
        return self._pending is not None

    def begin(self, x: Float[Tensor, "b n d"]) -> None:
        """A forward pass starts (called by a hook on the first block's input `x`)."""
        self.forwards += 1
        self._ever |= self._fired
        for state in (self._fired, self._open, self._sites, self._inside):
            state.clear()
        pending, self._pending = self._pending, None
        self._marks = self._end = None
        if pending is None and self.only_marked:
            raise WorkError(
                "a part of the model was called by itself: call the whole model, which sees padding and cache"
            )
        if pending is None:
            self._start = self._first_new(x, self._input)
        elif pending == "new":
            self._start = 0
        else:
            generated, mask = (t.to(x.device) for t in pending)
            if generated.shape != x.shape[:2]:
                raise WorkError(
                    f"tokens were marked as {tuple(generated.shape)} but the forward pass has {tuple(x.shape[:2])}"
                )
            self._marks, self._start, self._prompt_length = (generated, mask), None, x.shape[1]
        self._input = x.detach()
        goes_on, self._goes_on = self._goes_on, False
        if goes_on:
            self._end = torch.full((x.shape[0],), -1, dtype=torch.long, device=x.device)
        # what was found out at the prompts is of no use to new texts
        self._later = bool(self._held)
        step = self._start == 0 and x.shape[1] == 1
        if self._held and not goes_on and not step and bool((self._place(x) >= 0).any()):
            self._held.clear()
        if self.record:
            self.touched.append(torch.zeros(x.shape[:2], dtype=torch.bool))

    def _first_new(self, x: Float[Tensor, "b n d"], before: Tensor | None) -> int:
        """Place of the first generated token of a forward pass that nobody marked; its length where there is none."""
        batch, length = x.shape[:2]
        if before is not None and length == 1 and len(before) == batch:
            return 0
        if before is None or length != before.shape[1] + 1 or not torch.equal(x[:, :-1], before):
            self._prompt_length = length
        return self._prompt_length

    def _tokens(self) -> tuple[Bool[Tensor, "b n"], Bool[Tensor, "b n"]]:
        """Which tokens of the running forward pass are generated, and which are no padding."""
        if self._marks is None:
            if self._input is None or self._start is None:
                raise WorkError("an edit ran outside a forward pass of the whole model")
            mask = torch.ones(self._input.shape[:2], dtype=torch.bool, device=self._input.device)
            generated = torch.zeros_like(mask)
            generated[:, self._start :] = True
            self._marks = (generated, mask)
        return self._marks

    def _place(self, x: Tensor) -> Int[Tensor, " b"]:
        """Place of each row's last prompt token (see `Here.end`)."""
        if self._end is None:
            generated, mask = self._tokens()
            position = torch.arange(mask.shape[1], device=mask.device)
            end = torch.where(mask & ~generated, position, -1).amax(dim=1)
            # one later token under the KV cache: its prompt was run before
            if len(position) > 1 or not self._later:
                end = torch.where(end < 0, mask.int().argmax(dim=1), end)
            self._end = end
        return self._end.to(x.device)

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

    def whole(self, scope: Scope) -> bool:
        """Whether every token of the running forward pass is inside a scope, as far as that shows without a mask."""
        return self._input is not None and (scope == "all" or (self._start == 0 and scope != "prompt"))

    def first(self, key: tuple[int, int]) -> bool:
        """Whether a change comes for the first time in the running forward pass; it has come now."""
        fired = self._fired
        before = len(fired)
        fired.add(key)
        return len(fired) > before

    def select(self, scope: Scope, device: torch.device | None = None) -> Bool[Tensor, "b n"] | None:
        """Tokens of the running forward pass inside a scope; None stands for all of them."""
        if self._input is None:
            raise WorkError("an edit ran outside a forward pass of the whole model")
        if self.whole(scope):
            return None
        key = (scope, device or self._input.device)
        if key not in self._inside:
            self._inside[key] = self._mask_of(scope).to(key[1])
        return self._inside[key]

    def _mask_of(self, scope: Scope) -> Bool[Tensor, "b n"]:
        generated, mask = self._tokens()
        if scope == "generated":
            return generated & mask
        if scope == "prompt":
            return ~generated & mask
        # the prompt's end, and each generated token: the same tokens with the KV cache, without it, and when scored
        position = torch.arange(mask.shape[1], device=mask.device)
        last = torch.where(mask & ~generated, position, -1).amax(dim=1, keepdim=True)
        return (position[None] == last) | (generated & mask)

    def see(self, layer: int, site: str, x: Tensor) -> None:
        """Keep an activation that a change at another site of the layer reads (called by a hook)."""
        self._sites[layer, site] = x

    def judge(self, gate: RelevanceGate, layer: int, h: Float[Tensor, "b n k"], opened: Bool[Tensor, "b n"]) -> None:
        """Keep what a gate says of a layer's `hook_post` h, before any edit there (called by a hook)."""
        if gate.unit == "query":
            # one answer per text, given at its prompt's last token
            end = self._place(h)
            held = self._held.setdefault(("gate", id(gate)), {})
            if bool((end >= 0).all()):
                held[str(layer)] = opened.gather(1, end.clamp(min=0).to(opened.device)[:, None])
            opened = self._recalled(held, str(layer), h).expand(-1, h.shape[1])
        self._open[id(gate), layer] = opened

    @staticmethod
    def _recalled(held: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
        """What was found out at the prompt, for the rows of this forward pass."""
        kept = held.get(name)
        if kept is None or len(kept) != x.shape[0]:
            raise WorkError("an edit or a gate that reads the prompt never saw it: run the prompt in the same block")
        return kept

    def _selected(
        self, change: Change, scope: Scope, gate: RelevanceGate | None, device: torch.device
    ) -> Bool[Tensor, "b n"] | None:
        """Tokens that a change touches: those of the scope that the gate opens; None stands for all."""
        selected = self.select(scope, device)
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
        if key in self._fired:
            raise WorkError(
                f"the hook at {_at(change)} fired twice in one forward pass: this architecture cannot be edited safely"
            )
        self._fired.add(key)
        if x.ndim != 3 or x.shape[-1] != width:
            raise WorkError(
                f"the activation at {_at(change)} has shape {tuple(x.shape)}, expected [batch, token, {width}]"
            )
        if scope == "prompt" and self._start == 0 and not change.needs:
            return x  # a step under the KV cache
        rows = self.rows_of(condition, x)
        selected = self._selected(change, scope, gate, x.device)
        if change.needs:
            # worked out on all rows, so that what is held has one entry per text whoever they belong to
            new = self._informed(change, x, selected, self._held.setdefault(owner, {}))
            if rows is not None:
                return x.index_copy(0, rows, new.index_select(0, rows))
            self._record(selected)
            return new
        if rows is not None:
            part = x.index_select(0, rows)
            inside = None if selected is None else selected.index_select(0, rows)
            return x.index_copy(0, rows, self._changed(change, gate, part, inside)) if len(rows) else x
        self._record(selected)
        return self._changed(change, gate, x, selected)

    def _record(self, selected: Tensor | None) -> None:
        if self.record:
            self.touched[-1] |= (self._tokens()[1] if selected is None else selected).cpu()

    def _informed(self, change: Change, x: Tensor, selected: Tensor | None, held: dict[str, Tensor]) -> Tensor:
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
                raise WorkError(f"an edit at {_at(change)} holds {len(kept)} entries for {x.shape[0]} texts")
        return self._checked(change, x, new, selected)

    def _changed(self, change: Change, gate: RelevanceGate | None, x: Tensor, selected: Tensor | None) -> Tensor:
        """The activation after a change at the selected tokens."""
        # a closed gate costs no arithmetic (on a GPU asking would cost more than the arithmetic)
        if selected is not None and gate is not None and x.device.type == "cpu" and not selected.any():
            return x
        if selected is not None and isinstance(change.apply, Constant):
            return change.apply.within(x, selected)
        return self._checked(change, x, change.apply(x), selected)

    @staticmethod
    def _checked(change: Change, x: Tensor, new: Tensor, selected: Tensor | None) -> Tensor:
        if new.shape != x.shape:
            raise WorkError(f"an edit at {_at(change)} changed the shape {tuple(x.shape)} to {tuple(new.shape)}")
        return new if selected is None else torch.where(selected[..., None], new, x)

    def finish(self, expected: set[tuple[int, int]]) -> None:
        """After the block: every change must have run if the model did.

        Raises:
            WorkError: a hook never fired although forward passes were made.
        """
        silent = expected - self._ever - self._fired
        if self.forwards and silent:
            raise WorkError(f"{len(silent)} edit hook(s) never fired in {self.forwards} forward passes")


def _at(change: Change) -> str:
    return f"layer {change.layer}, site {change.site}"
