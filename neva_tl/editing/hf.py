"""edit_hf(): edits on a plain transformers model, so that its own `generate`, pipelines and calls run edited.

The same edits, changes and session as `edit()`, on the model's own modules: nothing is rewired, and edited generation pays the
edit's price, not that of a TransformerLens model around it. Padding and the key-value cache are read from what the model is
called with, in front of every forward pass:

- tokens without a cache are prompt, until the same rows come again with one token more (generation without a cache);
- one token behind a cache is generated;
- several tokens behind a cache (a chat's next turn, a prompt in chunks, speculative decoding) may be either: an edit that
  needs to know refuses them, unless `session.mark(generated, mask)` says what the next forward pass holds.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neva_tl import models
from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing.base import Edit
from neva_tl.editing.hooking import in_force
from neva_tl.editing.session import EditSession


@contextmanager
def edit_hf(hf_model: Any, *edits: Edit, record: bool = False) -> Iterator[EditSession]:
    """Put edits on a transformers model; they compose in the order given and are removed on leaving the block, error or not.

    Edits and neuron sets made on the TransformerLens model of the same weights and dtype fit as they are. The first call on a
    model reads its sizes and hashes its weights; later ones cost nothing.

    Args:
        hf_model: what `AutoModelForCausalLM.from_pretrained` gives; not needed is the TransformerLens model.
        edits: at hook points they share, they act one after the other.
        record: remember which tokens were touched (`session.touched`).

    Yields:
        The session.

    Raises:
        InputError: no plain causal language model, a mixture of experts, an edit of other weights or sizes, a hook point that
            no module of the model stands for, or an edit that works through the prompt.
    """
    for item in edits:
        if type(item).rewrite is not Edit.rewrite:
            raise InputError(
                f"{type(item).__name__} works through the prompt's text, which a model never sees: rewrite the prompt "
                "before it is tokenised (neva_tl.editing.rewrite(edit, prompt))"
            )
    model = models.plain(hf_model)
    session = EditSession(edits=tuple(edits), record=record, only_marked=True)
    reader = _Reader(session, tuple(inspect.signature(type(hf_model).forward).parameters)[1:])
    handle = hf_model.register_forward_pre_hook(reader.read, with_kwargs=True)
    try:
        with in_force(model, session, [(item, None) for item in edits]) as running:
            yield running
    finally:
        handle.remove()


@dataclass
class _Reader:
    """Tells a session what the model is about to run. `names`: of the positional arguments of the model's forward."""

    session: EditSession
    names: tuple[str, ...]
    before: Tensor | None = None
    prompt: int = 0

    def read(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(zip(self.names, args, strict=False)) | kwargs if args else kwargs
        tokens = given.get("input_ids")
        if tokens is None:
            tokens = given.get("inputs_embeds")
        if tokens is None:
            raise WorkError("an edited model needs input_ids or inputs_embeds")
        past = given.get("past_key_values")
        known = 0 if past is None else int(past.get_seq_length())
        if self.session.marked:
            self.before, self.prompt = tokens, tokens.shape[1]
        elif known and tokens.shape[1] == 1:
            self.session.mark_new()
        else:
            start = tokens.shape[1] if known else self._first_new(tokens)
            if known and (self.session.active_scopes - {"all"} or self.session.found()):
                raise WorkError(
                    f"{tokens.shape[1]} tokens behind a key-value cache may be prompt or generated (a next turn, a prompt in "
                    "chunks, speculative decoding): say which with session.mark(generated, mask) before the call"
                )
            generated = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
            generated[:, start:] = True
            self.session.mark(generated, _mask(given.get("attention_mask"), tokens))

    def _first_new(self, tokens: Tensor) -> int:
        """Place of the first generated token; the length where there is none."""
        before, self.before = self.before, tokens
        grown = before is not None and tokens.shape[:2] == (before.shape[0], before.shape[1] + 1)
        if not grown or before is None or not _continues(before, tokens[:, :-1]):
            self.prompt = tokens.shape[1]
        return self.prompt


def _continues(before: Tensor, tokens: Tensor) -> bool:
    """Whether every row was there before; beam search puts them in another order."""
    if torch.equal(before, tokens):
        return True
    same = before[None].flatten(2) == tokens[:, None].flatten(2)
    return bool(same.all(dim=2).any(dim=1).all())


def _mask(mask: Any, tokens: Tensor) -> Tensor:
    """Which of the tokens are no padding."""
    length = tokens.shape[1]
    if mask is None:
        return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    if not isinstance(mask, Tensor) or mask.ndim != 2 or mask.shape[1] < length:
        raise InputError(
            "an edit reads padding from an attention_mask [batch, token], and this forward pass was given another kind (a "
            "static cache?): generate with cache_implementation='dynamic'"
        )
    return mask[:, -length:].bool()
