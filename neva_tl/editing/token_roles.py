"""TokenRoles: which tokens of the running forward pass are prompt, generated or padding.

Every forward pass is marked before it runs: by the loops of `neva_tl`, by the user (`session.mark`), or from the arguments of
the call (see `call_reader`). Nothing is inferred from activations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl.core.errors import WorkError
from neva_tl.editing.base import Scope

#: Why a forward pass without marks is refused.
PART_ALONE = "a part of the model was called by itself: call the whole model, which sees padding and cache"


@dataclass
class TokenRoles:
    """Roles of the tokens of one forward pass after the other, and the masks of token scopes."""

    _pending: tuple[Tensor, Tensor] | Literal["new"] | None = None
    _marks: tuple[Tensor, Tensor] | None = None
    _new: bool = False
    _shape: tuple[int, int] | None = None
    _device: torch.device | None = None
    _end: Tensor | None = None
    _prompt_is_past: bool = False
    _masks: dict[tuple[Scope, torch.device], Tensor] = field(default_factory=dict)

    def mark(self, generated: Bool[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> None:
        """Set the roles of the next forward pass.

        Args:
            generated: True for generated tokens, False for prompt tokens.
            mask: True for real tokens, False for padding.
        """
        self._pending = (generated.bool(), mask.bool())

    def mark_new(self) -> None:
        """Announce a step under the KV cache: one generated token in every row, no padding."""
        self._pending = "new"

    def unmark(self) -> None:
        """Drop marks that no forward pass has taken."""
        self._pending = None

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
            WorkError: The pass was not marked, or marked with another shape.
        """
        self._masks.clear()
        pending, self._pending = self._pending, None
        self._marks = self._end = None
        if pending is None:
            raise WorkError(PART_ALONE)
        shape = (x.shape[0], x.shape[1])
        self._new = pending == "new"
        if pending == "new":
            if shape[1] != 1:
                raise WorkError(f"a step of one token was announced but the forward pass has {shape}")
        else:
            generated, mask = (t.to(x.device) for t in pending)
            if generated.shape != shape:
                raise WorkError(f"tokens were marked as {tuple(generated.shape)} but the forward pass has {shape}")
            self._marks = (generated, mask)
        self._shape, self._device = shape, x.device
        if resumed:
            self._end = torch.full((shape[0],), -1, dtype=torch.long, device=x.device)
        self._prompt_is_past = prompt_is_past

    @property
    def shape(self) -> tuple[int, int] | None:
        """Texts and tokens of the running pass; None before the first one."""
        return self._shape

    @property
    def all_generated(self) -> bool:
        """Whether the running pass is known to hold generated tokens alone (a step under the KV cache)."""
        return self._new

    def tokens(self) -> tuple[Bool[Tensor, "b n"], Bool[Tensor, "b n"]]:
        """Two masks of the running pass: True for generated tokens, and True for real ones (no padding).

        Raises:
            WorkError: No forward pass has started.
        """
        if self._marks is None:
            if self._shape is None:
                raise WorkError("an edit ran outside a forward pass of the whole model")
            ones = torch.ones(self._shape, dtype=torch.bool, device=self._device)
            self._marks = (ones, ones)
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
        return self._shape is not None and (scope == "all" or (self._new and scope != "prompt"))

    def select(self, scope: Scope, device: torch.device | None = None) -> Bool[Tensor, "b n"] | None:
        """Mask of a scope's tokens in the running pass; None selects every token.

        Args:
            scope: The token scope.
            device: Device of the mask; by default that of the first block's input.

        Raises:
            WorkError: No forward pass has started.
        """
        if self._device is None:
            raise WorkError("an edit ran outside a forward pass of the whole model")
        if self.covered(scope):
            return None
        key = (scope, device or self._device)
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
