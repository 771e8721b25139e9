"""Reads mask, cache and positions from the calls of a model, and marks token roles from them.

One reader serves `edit` and `edit_hf`, and every way of running a model: the loops of `neva_tl` (whose own marks it leaves as
they are), the user's calls of the model, and its `generate`. The rules:

- tokens of a plain call without a cache are prompt. A plain call that repeats the call before and adds one token may be a new
  prompt or a continuation: an edit that depends on the difference refuses it;
- inside `generate` the first pass is the prompt, later tokens are generated, with and without a cache;
- one token after a cache is generated;
- several tokens after a cache (a chat's next turn, a prompt in chunks, speculative decoding) may be either: an edit that
  depends on the difference refuses them.

`session.mark(generated, mask)` before a call states the roles wherever they are refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neva_tl import models
from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing.session import CHECKPOINTED, EditSession

#: How to state the roles of tokens that a call leaves open.
_STATE = "state which with session.mark(generated, mask) before the call"


@dataclass
class Generation:
    """One call of `generate`.

    Attributes:
        prompt_length: Tokens of its prompt, padding included; None until the first pass where the call does not state it.
        started: Whether its first pass has run.
    """

    prompt_length: int | None = None
    started: bool = False


class CallReader:
    """Marks token roles in a session from the arguments of the model's calls."""

    def __init__(self, session: EditSession, module: Any, pad_id: int | None) -> None:
        """Read the signature of the module's calls.

        Args:
            session: The session that receives the marks.
            module: The module that is called (see `module_called`).
            pad_id: The token id that pads.
        """
        self._session = session
        self._names = tuple(inspect.signature(type(module).forward).parameters)[1:]
        self._module, self._pad_id = module, pad_id
        self._previous: Tensor | None = None  # tokens of the plain call before
        self._generation: Generation | None = None

    # ---------------------------------------------------------------- called by `model_calls`

    @property
    def session(self) -> EditSession:
        """The session that receives the marks."""
        return self._session

    def begin_pass(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Mark the tokens of the forward pass that is about to run.

        Args:
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.
        """
        self._session.enter_pass()
        if torch.compiler.is_compiling():
            raise InputError("an edited model cannot be exported: remove the edit first")
        if self._module.training and torch.is_grad_enabled() and _checkpoints(self._module):
            raise InputError(CHECKPOINTED)
        arguments = dict(zip(self._names, args, strict=False)) | kwargs if args else kwargs
        if self._session.reads_tokens:
            tokens = self._tokens(arguments)
            self._session.token_ids = None if tokens.is_floating_point() else tokens
        self._read(arguments)

    def end_pass(self) -> None:
        """Note that the pass has ended, also by an error or an interrupt."""
        self._session.leave_pass()

    @contextmanager
    def inside(self, generation: Generation) -> Iterator[None]:
        """Read the passes of the block as those of one call of `generate`.

        Args:
            generation: The call.
        """
        outer, self._generation, self._previous = self._generation, generation, None
        try:
            yield
        finally:
            self._generation, self._previous = outer, None

    # ---------------------------------------------------------------- roles from arguments

    def _read(self, arguments: dict[str, Any]) -> None:
        session, generation = self._session, self._generation
        if session.roles.marked:
            # `_previous` stays unset: whoever marks one pass marks all of a text
            self._previous = None
            return
        tokens, n_cached = self._tokens(arguments), _n_cached(arguments)
        width = tokens.shape[1]
        if generation is None or generation.started:
            if n_cached and width == 1:
                session.mark_new()
                return
            if n_cached and self._depends:
                raise WorkError(
                    f"{width} tokens after a key-value cache may be prompt or generated (a next turn, a prompt in "
                    f"chunks, speculative decoding): {_STATE}"
                )
        if generation is None:
            start = width
            if not n_cached:
                self._refuse_continuation(tokens)
        else:
            start = self._start_in(generation, n_cached, width)
        mask = self._mask(arguments, tokens)
        generated = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        generated[:, start:] = True
        session.mark(generated, mask)

    @property
    def _depends(self) -> bool:
        """Whether the edits depend on which tokens are prompt and which are generated."""
        return self._session.reads_prompts or bool(self._session.active_scopes - {"all"})

    def _start_in(self, generation: Generation, n_cached: int, width: int) -> int:
        """Position of the first generated token in a pass of `generate`."""
        if generation.prompt_length is None:
            generation.prompt_length = n_cached + width
        elif not generation.started and n_cached + width < generation.prompt_length and self._depends:
            raise WorkError(
                f"a prompt in chunks: its first {width} tokens may be prompt or generated for an edit of this scope: "
                "generate without prefill_chunk_size"
            )
        generation.started = True
        return min(max(generation.prompt_length - n_cached, 0), width)

    def _refuse_continuation(self, tokens: Tensor) -> None:
        previous, self._previous = self._previous, tokens
        if previous is None or not self._depends or tokens.shape[:2] != (previous.shape[0], previous.shape[1] + 1):
            return
        if tokens.dtype == previous.dtype and torch.equal(previous, tokens[:, :-1]):
            raise InputError(
                "this call repeats the call before and adds one token, which may be the next prompt or a generated token: "
                f"{_STATE}, or generate with a key-value cache or `generate`"
            )

    def _tokens(self, arguments: dict[str, Any]) -> Tensor:
        tokens = arguments.get("input_ids")
        if tokens is None:
            tokens = arguments.get("inputs_embeds")
        if tokens is None and "input" in arguments:  # a HookedTransformer, which takes text as well
            tokens = arguments["input"]
            if not isinstance(tokens, Tensor):
                options = {name: arguments[name] for name in ("prepend_bos", "padding_side") if name in arguments}
                tokens = self._module.to_tokens(tokens, **options)
            tokens = tokens[None] if tokens.ndim == 1 else tokens
        if tokens is None:
            raise WorkError("an edited model needs input_ids or inputs_embeds")
        return tokens

    def _mask(self, arguments: dict[str, Any], tokens: Tensor) -> Tensor:
        """True for real tokens, False for padding."""
        mask, length = arguments.get("attention_mask"), tokens.shape[1]
        matters = self._depends or self._session.record
        if mask is None and "input" in arguments:
            mask = self._own_mask(arguments, tokens)
        if mask is None:
            if matters:
                self._refuse_hidden_padding(tokens)
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        elif self._generation is not None and (real := _real_tokens(mask, _n_cached(arguments), tokens)) is not None:
            mask = real
        elif not isinstance(mask, Tensor) or mask.ndim != 2 or mask.shape[1] < length:
            raise InputError(
                "an edit reads padding from an attention_mask [batch, token], and this forward pass got another kind (a "
                "static cache?): generate with cache_implementation='dynamic'"
            )
        mask = mask[:, -length:].bool()
        if matters:
            _refuse_several_texts(arguments.get("position_ids"), mask)
        return mask

    def _own_mask(self, arguments: dict[str, Any], tokens: Tensor) -> Tensor | None:
        """The mask that a `HookedTransformer` makes itself where its tokenizer pads on the left."""
        if tokens.is_floating_point() or tokens.shape[0] < 2:
            return None
        return models.own_padding_mask(self._module, tokens, arguments.get("padding_side"))

    def _refuse_hidden_padding(self, tokens: Tensor) -> None:
        """Refuse a batch that is padded, going by its tokens, and comes without a mask."""
        if self._pad_id is None or tokens.shape[0] < 2 or tokens.ndim != 2 or tokens.is_floating_point():
            return
        pads = tokens == self._pad_id
        ends = pads[:, -1]
        # where BOS pads, every row may start with one
        starts = pads[:, 0] if not bool(pads[:, 0].all()) else pads[:, :2].all(dim=1)
        if any(bool(edge.any()) and not bool(edge.all()) for edge in (ends, starts)):
            raise InputError(
                "some rows of this batch begin or end with the padding token and no attention_mask says what is padding: "
                "pass attention_mask (all ones where the tokens are real)"
            )


def _n_cached(arguments: dict[str, Any]) -> int:
    """Tokens that the key-value cache holds."""
    past = arguments.get("past_key_values")
    if past is not None:
        return int(past.get_seq_length())
    past = arguments.get("past_kv_cache")
    return 0 if past is None else int(past[0].past_keys.shape[1])


def _real_tokens(mask: Any, n_cached: int, tokens: Tensor) -> Tensor | None:
    """Real tokens according to the mask [batch, 1, query, slot] that `generate` makes for a static cache.

    Args:
        mask: The mask, or one for each kind of attention.
        n_cached: Tokens that the cache holds.
        tokens: Tokens of the pass.

    Returns:
        True for real tokens `[b, n]`; None for another kind of mask.
    """
    if isinstance(mask, Mapping):
        mask = mask.get("full_attention", next(iter(mask.values()), None))
    n_rows, width = tokens.shape[:2]
    if not isinstance(mask, Tensor) or mask.ndim != 4 or mask.shape[2] != width or mask.shape[3] < n_cached + width:
        return None
    seen = mask[:, 0] if mask.dtype == torch.bool else mask[:, 0] > torch.finfo(mask.dtype).min / 2
    # a real token attends to itself
    real = seen[:, :, n_cached : n_cached + width].diagonal(dim1=1, dim2=2)
    # a padded query may attend to all slots, because softmax of nothing is not a number; a real one sees no later slot
    has_later = torch.arange(n_cached + 1, n_cached + width + 1, device=seen.device) < seen.shape[2]
    return (real & ~(seen.all(-1) & has_later)).expand(n_rows, width)


def _checkpoints(module: nn.Module) -> bool:
    return any(getattr(part, "gradient_checkpointing", False) is True for part in module.modules())


def _refuse_several_texts(positions: Any, mask: Tensor) -> None:
    """Refuse several texts in one row, which restart the position ids."""
    if not isinstance(positions, Tensor) or positions.ndim != 2 or positions.shape[1] != mask.shape[1]:
        return
    both = mask[:, 1:] & mask[:, :-1]
    if bool(((positions[:, 1:] <= positions[:, :-1]) & both.to(positions.device)).any()):
        raise InputError(
            "the position ids restart inside a row (several texts in one row), where an edit cannot tell the end of each "
            "prompt: run one text per row, with padding and attention_mask"
        )
