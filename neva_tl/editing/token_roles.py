"""TokenRoles: which tokens of the running forward pass are prompt, generated or padding.

The loops of `neva_tl` state it (`mark`). Where the user calls `model.generate` or the model itself, it is inferred: the first
forward pass is the prompt; a pass of one token after it is generated; a pass that repeats the one before and adds a token (no
KV cache) is generated from the end of the prompt on. One case is ambiguous: a text of one token, run after another pass,
counts as generated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl.core.errors import WorkError
from neva_tl.editing.base import Scope


@dataclass
class PromptTracker:
    """Length of the prompt in unmarked forward passes, inferred from the pass before.

    A pass that repeats the one before and adds one token (generation without a KV cache) belongs to the same prompt; any
    other pass is a new prompt.

    Attributes:
        repeats: `repeats(before, inputs)`: Whether some inputs equal those of the pass before.
        before: Inputs of the pass before, `[b, n]` token ids or `[b, n, d]` activations.
        prompt_length: Tokens of the current prompt, padding included.
    """

    repeats: Callable[[Tensor, Tensor], bool] = torch.equal
    before: Tensor | None = None
    prompt_length: int = 0

    def start(self, inputs: Tensor) -> None:
        """Take a forward pass as a new prompt."""
        self.before, self.prompt_length = inputs, inputs.shape[1]

    def first_generated(self, inputs: Tensor) -> int:
        """Position of the first generated token of the next forward pass; its length where it is a new prompt."""
        before, self.before = self.before, inputs
        grown = before is not None and inputs.shape[:2] == (before.shape[0], before.shape[1] + 1)
        if not grown or before is None or not self.repeats(before, inputs[:, :-1]):
            self.prompt_length = inputs.shape[1]
        return self.prompt_length


@dataclass
class TokenRoles:
    """Roles of the tokens of one forward pass after the other, and the masks of token scopes.

    Attributes:
        only_marked: Refuse a forward pass without marks, instead of inferring its roles.
    """

    only_marked: bool = False
    _tracker: PromptTracker = field(default_factory=PromptTracker)
    _pending: tuple[Tensor, Tensor] | Literal["new"] | None = None
    _marks: tuple[Tensor, Tensor] | None = None
    _start: int | None = None
    _end: Tensor | None = None
    _prompt_is_past: bool = False
    _masks: dict[tuple[Scope, torch.device], Tensor] = field(default_factory=dict)

    def mark(self, generated: Bool[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> None:
        """Set the roles of the next forward pass: True for generated tokens, and True for real ones (no padding)."""
        self._pending = (generated.bool(), mask.bool())

    def mark_new(self) -> None:
        """Announce a step under the KV cache: one generated token in every row, no padding."""
        self._pending = "new"

    @property
    def marked(self) -> bool:
        """Whether the roles of the next forward pass are set."""
        return self._pending is not None

    def begin(self, x: Float[Tensor, "b n d"], *, resumed: bool, prompt_is_past: bool) -> None:
        """Take the roles of the forward pass that starts.

        Args:
            x: Input of the first block.
            resumed: Whether the pass continues prompts of an earlier pass, and contains no prompt token.
            prompt_is_past: Whether the prompt of a single token may have been run before.

        Raises:
            WorkError: The pass was not marked under `only_marked`, or marked with another shape.
        """
        self._masks.clear()
        pending, self._pending = self._pending, None
        self._marks = self._end = None
        inputs, before = x.detach(), self._tracker.before
        if pending is None and self.only_marked:
            raise WorkError(
                "a part of the model was called by itself: call the whole model, which sees padding and cache"
            )
        if pending == "new" or (pending is None and before is not None and (len(before), 1) == x.shape[:2]):
            self._start, self._tracker.before = 0, inputs
        elif pending is None:
            self._start = self._tracker.first_generated(inputs)
        else:
            generated, mask = (t.to(x.device) for t in pending)
            if generated.shape != x.shape[:2]:
                raise WorkError(
                    f"tokens were marked as {tuple(generated.shape)} but the forward pass has {tuple(x.shape[:2])}"
                )
            self._marks, self._start = (generated, mask), None
            self._tracker.start(inputs)
        if resumed:
            self._end = torch.full((x.shape[0],), -1, dtype=torch.long, device=x.device)
        self._prompt_is_past = prompt_is_past

    def keep_rows(self, index: Int[Tensor, " r"]) -> None:
        """Drop all other rows of the batch."""
        before = self._tracker.before
        if before is not None:
            self._tracker.before = before[index.to(before.device)]

    @property
    def all_generated(self) -> bool:
        """Whether the running pass is known to hold generated tokens alone (a step under the KV cache)."""
        return self._start == 0

    def tokens(self) -> tuple[Bool[Tensor, "b n"], Bool[Tensor, "b n"]]:
        """Two masks of the running pass: True for generated tokens, and True for real ones (no padding).

        Raises:
            WorkError: No forward pass has started.
        """
        if self._marks is None:
            if self._tracker.before is None or self._start is None:
                raise WorkError("an edit ran outside a forward pass of the whole model")
            inputs = self._tracker.before
            mask = torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
            generated = torch.zeros_like(mask)
            generated[:, self._start :] = True
            self._marks = (generated, mask)
        return self._marks

    def prompt_end(self, x: Tensor) -> Int[Tensor, " b"]:
        """Position of each row's last prompt token on the device of `x` (see `PromptContext.end`)."""
        if self._end is None:
            generated, mask = self.tokens()
            position = torch.arange(mask.shape[1], device=mask.device)
            end = torch.where(mask & ~generated, position, -1).amax(dim=1)
            # a single later token under the KV cache keeps -1: its prompt was run before
            if len(position) > 1 or not self._prompt_is_past:
                end = torch.where(end < 0, mask.int().argmax(dim=1), end)
            self._end = end
        return self._end.to(x.device)

    def covered(self, scope: Scope) -> bool:
        """Whether a scope holds every token of the running pass, as far as that is known without a mask."""
        return self._tracker.before is not None and (scope == "all" or (self._start == 0 and scope != "prompt"))

    def select(self, scope: Scope, device: torch.device | None = None) -> Bool[Tensor, "b n"] | None:
        """Mask of a scope's tokens in the running pass; None selects every token.

        Args:
            scope: The token scope.
            device: Device of the mask; by default that of the first block's input.

        Raises:
            WorkError: No forward pass has started.
        """
        before = self._tracker.before
        if before is None:
            raise WorkError("an edit ran outside a forward pass of the whole model")
        if self.covered(scope):
            return None
        key = (scope, device or before.device)
        if key not in self._masks:
            self._masks[key] = self._mask_of(scope).to(key[1])
        return self._masks[key]

    def _mask_of(self, scope: Scope) -> Bool[Tensor, "b n"]:
        generated, mask = self.tokens()
        if scope == "generated":
            return generated & mask
        if scope == "prompt":
            return ~generated & mask
        # the end of the prompt and every generated token: the same tokens with and without the KV cache, and when scored
        position = torch.arange(mask.shape[1], device=mask.device)
        last = torch.where(mask & ~generated, position, -1).amax(dim=1, keepdim=True)
        return (position[None] == last) | (generated & mask)
