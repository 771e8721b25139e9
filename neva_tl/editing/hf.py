"""edit_hf(): edits on a plain transformers model, so that its own `generate`, pipelines and calls run edited.

The same edits, changes and session as `edit()`, on the modules of the transformers model: nothing is rewired, and edited
generation costs the edit alone, without a TransformerLens wrapper. Padding and the key-value cache are read from the arguments
of every forward pass:

- tokens without a cache are prompt, until the same rows come again with one more token (generation without a cache);
- one token after a cache is generated;
- several tokens after a cache (a chat's next turn, a prompt in chunks, speculative decoding) may be either: an edit that
  depends on the difference refuses them, unless `session.mark(generated, mask)` states the roles for the next forward pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from neva_tl import models
from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing.base import Edit
from neva_tl.editing.hooking import in_force
from neva_tl.editing.session import EditSession
from neva_tl.editing.token_roles import PromptTracker, TokenRoles


@contextmanager
def edit_hf(hf_model: Any, *edits: Edit, record: bool = False) -> Iterator[EditSession]:
    """Apply edits to a transformers model inside the block; they compose in order and are removed at its end, also on an error.

    Edits and neuron sets made on the TransformerLens model of the same weights and dtype fit as they are. The first call on a
    model reads its sizes and hashes its weights; later calls cost nothing.

    Args:
        hf_model: A transformers causal LM. No TransformerLens model is needed.
        *edits: The edits; at a shared hook point they act one after the other.
        record: Store which tokens were touched (`session.touched`).

    Yields:
        The session.

    Raises:
        InputError: Not a plain causal language model, a mixture of experts, an edit of other weights or sizes, a hook point
            without a module in this model, or an edit that works through the prompt.
    """
    for item in edits:
        if type(item).rewrite is not Edit.rewrite:
            raise InputError(
                f"{type(item).__name__} works through the prompt's text, which a model never sees: rewrite the prompt "
                "before it is tokenised (neva_tl.editing.rewrite(edit, prompt))"
            )
    model = models.plain(hf_model)
    session = EditSession(edits=tuple(edits), record=record, roles=TokenRoles(only_marked=True))
    reader = _ArgumentReader(session, tuple(inspect.signature(type(hf_model).forward).parameters)[1:])
    handle = hf_model.register_forward_pre_hook(reader.read, with_kwargs=True)
    try:
        with in_force(model, session, [(item, None) for item in edits]) as running:
            yield running
    finally:
        handle.remove()


@dataclass
class _ArgumentReader:
    """Marks token roles in a session from the arguments of the model's forward.

    Attributes:
        session: The session.
        names: Names of the positional arguments of the model's forward.
        tracker: Prompt length in passes without a cache.
    """

    session: EditSession
    names: tuple[str, ...]
    tracker: PromptTracker = field(default_factory=lambda: PromptTracker(_same_rows))

    def read(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Mark the tokens of the forward pass that is about to run (a forward pre-hook)."""
        arguments = dict(zip(self.names, args, strict=False)) | kwargs if args else kwargs
        tokens = arguments.get("input_ids")
        if tokens is None:
            tokens = arguments.get("inputs_embeds")
        if tokens is None:
            raise WorkError("an edited model needs input_ids or inputs_embeds")
        past = arguments.get("past_key_values")
        n_cached = 0 if past is None else int(past.get_seq_length())
        if self.session.roles.marked:
            self.tracker.start(tokens)
        elif n_cached and tokens.shape[1] == 1:
            self.session.mark_new()
        else:
            start = tokens.shape[1] if n_cached else self.tracker.first_generated(tokens)
            if n_cached and (self.session.active_scopes - {"all"} or self.session.prompt_state()):
                raise WorkError(
                    f"{tokens.shape[1]} tokens after a key-value cache may be prompt or generated (a next turn, a prompt in "
                    "chunks, speculative decoding): state which with session.mark(generated, mask) before the call"
                )
            generated = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
            generated[:, start:] = True
            self.session.mark(generated, _mask(arguments.get("attention_mask"), tokens))


def _same_rows(before: Tensor, tokens: Tensor) -> bool:
    """Whether every row of `tokens` is among the rows before; beam search reorders them."""
    if torch.equal(before, tokens):
        return True
    same = before[None].flatten(2) == tokens[:, None].flatten(2)
    return bool(same.all(dim=2).any(dim=1).all())


def _mask(mask: Any, tokens: Tensor) -> Tensor:
    """True for real tokens, False for padding."""
    length = tokens.shape[1]
    if mask is None:
        return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    if not isinstance(mask, Tensor) or mask.ndim != 2 or mask.shape[1] < length:
        raise InputError(
            "an edit reads padding from an attention_mask [batch, token], and this forward pass got another kind (a "
            "static cache?): generate with cache_implementation='dynamic'"
        )
    return mask[:, -length:].bool()
