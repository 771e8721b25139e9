"""Decoding with common random numbers: the loop that turns logits into tokens, edited or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl import models
from neva_tl.models.inference.prompt_cache import Prefill


@dataclass(frozen=True)
class Decoding:
    """How to decode: length in tokens, temperature (0 is greedy), seed, tokens that end a text, key-value cache."""

    max_new_tokens: int
    temperature: float
    seed: int
    stops: frozenset[int]
    cache: bool = True


def uniforms(seed: int, prompt: int, n: int) -> Float[np.ndarray, " n"]:
    """The uniforms of one prompt's tokens: element t depends on (seed, prompt, t) alone (Philox counts)."""
    key = np.array([seed % 2**64, prompt], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(n)


def pick(logits: Float[Tensor, "b v"], temperature: float, u: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Next tokens: the argmax at temperature 0, else the inverse CDF at u over ascending token ids (float64)."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    share = torch.softmax(logits.double() / temperature, dim=-1).cumsum(dim=-1)
    # rounding may leave the sum a hair below 1: scale u, and clamp
    chosen = torch.searchsorted(share, (u.double() * share[:, -1])[:, None], right=True).squeeze(1)
    return chosen.clamp_max(logits.shape[-1] - 1)


def decode(
    model: models.Model,
    tokens: Int[Tensor, "b n"],
    mask: Bool[Tensor, "b n"],
    numbers: Sequence[int],
    how: Decoding,
    session: Any = None,
    places: Sequence[int] | None = None,
    prefill: Prefill | None = None,
) -> list[list[int]]:
    """Continue left-padded prompts.

    Rows that have ended are dropped once they are half of the batch (only where no session, or one with `keep_rows`,
    could be holding something per row).

    Args:
        numbers: each row's prompt number: with the seed it fixes the row's random numbers.
        prefill: unedited prompts run before, used where no edit touches them and the key-value cache is on.
        places: each row's place in the caller's list, for sessions that run several conditions; default: `numbers`.

    Returns:
        New token ids per row, without the token that ended it.
    """
    out: list[list[int]] = [[] for _ in numbers]
    draws = np.stack([uniforms(how.seed, i, how.max_new_tokens) for i in numbers]) if how.temperature else None
    rows = np.arange(len(numbers))  # which prompt each row of the running batch is
    ended = np.zeros(len(numbers), dtype=bool)  # by row of the running batch
    if hasattr(session, "set_rows"):
        session.set_rows(numbers if places is None else places)
    may_drop = session is None or hasattr(session, "keep_rows")
    past = models.KVCache() if how.cache else None
    step_tokens, step_mask, whole, whole_mask = tokens, mask, tokens, mask
    width = tokens.shape[1]
    last = torch.tensor([0], device=tokens.device)
    for step in range(how.max_new_tokens):
        if step == 0 and prefill is not None and how.cache and prefill.fits(session):
            past, logits = prefill.run(model, step_tokens, step_mask)
        else:
            if step and how.cache and hasattr(session, "mark_new"):
                session.mark_new()
            elif session is not None:
                generated = torch.zeros_like(step_mask)
                # with a cache each later pass holds new tokens only; without, the prompt is run again and stays prompt
                generated[:, 0 if (how.cache and step) else width :] = True
                session.mark(generated, step_mask)
            end = last + step_tokens.shape[1] - 1
            found = models.forward(model, step_tokens, step_mask, positions=end, past=past)
            assert found is not None
            logits = found
        u = torch.zeros(len(rows)) if draws is None else torch.from_numpy(draws[rows, step])
        chosen = pick(logits[:, -1].float(), how.temperature, u.to(logits.device))
        for place, token in enumerate(chosen.tolist()):
            if ended[place]:
                continue
            if token in how.stops:
                ended[place] = True
            else:
                out[rows[place]].append(token)
        if ended.all() or step + 1 == how.max_new_tokens:
            break
        if may_drop and 2 * ended.sum() >= len(ended):
            keep = np.flatnonzero(~ended)
            index = torch.from_numpy(keep).to(tokens.device)
            rows, ended, chosen = rows[keep], ended[keep], chosen[index]
            whole, whole_mask = whole[index], whole_mask[index]
            past = None if past is None else past.rows(index)
            if session is not None:
                session.keep_rows(index)
        step_tokens, step_mask = chosen[:, None], torch.ones_like(chosen[:, None], dtype=torch.bool)
        if not how.cache:
            whole, whole_mask = torch.cat([whole, step_tokens], 1), torch.cat([whole_mask, step_mask], 1)
            step_tokens, step_mask = whole, whole_mask
    return out
