"""edit(): put edits on a model for the length of a `with` block, and take them off whatever happens.

The session knows which tokens of a forward pass are prompt and which are generated. Our own loops say so (`mark`);
where the user calls `model.generate` or the model itself, it is worked out: the first forward is the prompt, a forward of
one token after it is generated, a forward that repeats the one before and adds a token (no KV cache) is generated from
the prompt's end on. What cannot be told apart: a text of one token run after another forward counts as generated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl import models
from neva_tl.editing.base import Change, Edit, Scope
from neva_tl.errors import WorkError


@dataclass
class EditSession:
    """State of one `with edit(...)` block.

    Attributes:
        edits: what is in force.
        record: keep the mask of touched tokens of every forward pass in `touched` (one `[b, n]` per forward).
        forwards: forward passes seen so far.
        active_scopes: token scopes of the edits that change activations (a prefix cache is right only when they are
            all `generated`).
    """

    edits: tuple[Edit, ...]
    record: bool = False
    touched: list[Bool[Tensor, "b n"]] = field(default_factory=list)
    forwards: int = 0
    active_scopes: frozenset[Scope] = frozenset()
    _pending: tuple[Tensor, Tensor] | None = None
    _generated: Tensor | None = None
    _mask: Tensor | None = None
    _prompt_length: int = 0
    _input: Tensor | None = None
    _fired: set[tuple[int, int]] = field(default_factory=set)
    _ever: set[tuple[int, int]] = field(default_factory=set)

    def mark(self, generated: Bool[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> None:
        """Say what the next forward pass holds: which tokens count as generated, and which are no padding."""
        self._pending = (generated.bool(), mask.bool())

    def begin(self, x: Float[Tensor, "b n d"]) -> None:
        """A forward pass starts (called by a hook on the first block's input `x`)."""
        batch, length = shape = (x.shape[0], x.shape[1])
        device, before = x.device, self._input
        self.forwards += 1
        self._fired.clear()
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
        if self.record:
            touched = torch.zeros(shape, dtype=torch.bool, device=device)
            for scope in self.active_scopes:
                selected = self.select(scope)
                touched |= self._mask if selected is None else selected
            self.touched.append(touched.cpu())

    def keep_rows(self, index: Int[Tensor, " r"]) -> None:
        """Go on with some rows of the batch only (our decoding loop drops texts that have ended)."""
        if self._input is not None:
            self._input = self._input[index.to(self._input.device)]

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

    def applied(self, key: tuple[int, int], change: Change, scope: Scope, x: Tensor, width: int) -> Tensor:
        """The activation after one change, restricted to the scope, with shape and once-per-forward checked.

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
        new = change.apply(x)
        if new.shape != x.shape:
            raise WorkError(f"an edit at {place} changed the shape {tuple(x.shape)} to {tuple(new.shape)}")
        selected = self.select(scope)
        return new if selected is None else torch.where(selected[..., None], new, x)

    def finish(self, expected: set[tuple[int, int]]) -> None:
        """After the block: every change must have run if the model did.

        Raises:
            WorkError: a hook never fired although forward passes were made.
        """
        if self.forwards and expected - self._ever:
            raise WorkError(f"{len(expected - self._ever)} edit hook(s) never fired in {self.forwards} forward passes")


@contextmanager
def edit(model: Any, *edits: Edit, record: bool = False) -> Iterator[EditSession]:
    """Put edits on a model; they compose in the order given and are removed on leaving the block, error or not.

    Args:
        model: a TransformerLens model.
        edits: at hook points they share, they act one after the other.
        record: remember which tokens were touched (`session.touched`).

    Yields:
        The session; our own loops mark its tokens, `session.touched` says what was edited.
    """
    session = EditSession(edits=tuple(edits), record=record)
    info = models.info(model)
    expected: set[tuple[int, int]] = set()
    with ExitStack() as stack:
        plan = [(item, change) for item in edits for change in item.changes(model)]
        session.active_scopes = frozenset(item.scope for item, _ in plan)
        if plan:
            handle = models.add_hook(model, models.hook_name(model, 0, "resid_pre"), _begin(session))
            stack.callback(handle.remove)
        for position, (item, change) in enumerate(plan):
            key = (position, change.layer)
            expected.add(key)
            width = info.d_mlp if change.site in ("post", "gate", "pre") else info.d_model
            name = models.hook_name(model, change.layer, change.site)
            handle = models.add_hook(model, name, _apply(session, key, change, item.scope, width))
            stack.callback(handle.remove)
        yield session
        session.finish(expected)


def _begin(session: EditSession) -> Callable[..., None]:
    def begin(x: Tensor, hook: Any = None) -> None:
        session.begin(x)

    return begin


def _apply(
    session: EditSession, key: tuple[int, int], change: Change, scope: Scope, width: int
) -> Callable[..., Tensor]:
    def apply(x: Tensor, hook: Any = None) -> Tensor:
        return session.applied(key, change, scope, x, width)

    return apply
