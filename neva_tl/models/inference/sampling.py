"""Decoding with common random numbers: the loop that turns logits into tokens, edited or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl import models
from neva_tl.models.inference.prompt_cache import Prefill, run_distinct
from neva_tl.models.inference.session import TokenSession, in_force


@dataclass(frozen=True)
class SamplingSettings:
    """Settings of one decoding loop.

    Attributes:
        max_new_tokens: Tokens per text.
        temperature: 0 is greedy.
        seed: Seed of the uniforms.
        stops: Token ids that end a text.
        cache: Use the key-value cache.
    """

    max_new_tokens: int
    temperature: float
    seed: int
    stops: frozenset[int]
    cache: bool = True


def uniforms(seed: int, prompt: int, n: int) -> Float[np.ndarray, " n"]:
    """The uniforms of one prompt's tokens: element t depends on (seed, prompt, t) alone (a Philox counter).

    Args:
        seed: The seed.
        prompt: The prompt's number.
        n: Number of tokens.
    """
    key = np.array([seed % 2**64, prompt], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(n)


def pick(logits: Float[Tensor, "b v"], temperature: float, u: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Next tokens: the argmax at temperature 0, else the inverse CDF at u over ascending token ids (float64).

    Args:
        logits: Next-token logits.
        temperature: The temperature.
        u: A uniform in [0, 1) for each row.
    """
    if temperature == 0:
        return logits.float().argmax(dim=-1)
    # a few rows at a time stay in a processor's cache: four times as fast as 64 rows of 152,000 tokens at once
    size = max(_SAMPLED_AT_ONCE // logits.shape[-1], 1) if logits.device.type == "cpu" else len(logits)
    parts = zip(logits.split(size), u.split(size), strict=True)
    return torch.cat([_inverse_cdf(rows, temperature, numbers) for rows, numbers in parts])


#: Probabilities that are computed at once on a CPU (1 MiB in float64).
_SAMPLED_AT_ONCE = 2**17


def _inverse_cdf(logits: Tensor, temperature: float, u: Tensor) -> Tensor:
    share = torch.softmax(logits.double() / temperature, dim=-1).cumsum(dim=-1)
    # rounding may leave the sum slightly below 1: scale u, and clamp
    token = torch.searchsorted(share, (u.double() * share[:, -1])[:, None], right=True).squeeze(1)
    return token.clamp_max(logits.shape[-1] - 1)


@dataclass
class _RunningBatch:
    """The rows of a batch whose texts are being continued.

    Attributes:
        tokens: Input of the next forward pass: the full texts without a cache, the newest tokens with one.
        mask: True for real tokens, False for padding.
        past: The key-value cache; None without one.
        prompts: Position of each row's prompt in the original batch.
        ended: Whether each row's text has ended.
        n_prompt: Width of the prompts, padding included.
    """

    tokens: Int[Tensor, "b n"]
    mask: Bool[Tensor, "b n"]
    past: models.KVCache | None
    prompts: np.ndarray
    ended: np.ndarray
    n_prompt: int

    def next_logits(self, model: models.Model, session: TokenSession | None, *, first: bool) -> Float[Tensor, "b v"]:
        """Run the next forward pass, with its tokens marked in the session."""
        if session is not None and self.past is not None and not first:
            session.mark_new()
        elif session is not None:
            # without a cache the prompt is run again, and stays prompt
            generated = torch.zeros_like(self.mask)
            generated[:, self.n_prompt :] = True
            session.mark(generated, self.mask)
        end = torch.tensor([self.tokens.shape[1] - 1], device=self.tokens.device)
        logits = models.forward(model, self.tokens, self.mask, positions=end, past=self.past)
        assert logits is not None
        return logits[:, -1]

    def record(self, new: Int[Tensor, " b"], stops: frozenset[int], out: list[list[int]]) -> None:
        """Append each row's new token to its text in `out`; a stop token ends the text instead."""
        for row, token in enumerate(new.tolist()):
            if self.ended[row]:
                continue
            if token in stops:
                self.ended[row] = True
            else:
                out[self.prompts[row]].append(token)

    def drop_ended(self, session: TokenSession | None) -> Int[Tensor, " r"]:
        """Drop the rows whose texts have ended, and return the indices of the others."""
        rows = np.flatnonzero(~self.ended)
        index = torch.from_numpy(rows).to(self.tokens.device)
        self.prompts, self.ended = self.prompts[rows], self.ended[rows]
        self.tokens, self.mask = self.tokens[index], self.mask[index]
        self.past = None if self.past is None else self.past.rows(index)
        if session is not None:
            session.keep_rows(index)
        return index

    def append(self, new: Int[Tensor, " b"]) -> None:
        """Make the new tokens input of the next forward pass."""
        tokens, mask = new[:, None], torch.ones_like(new[:, None], dtype=torch.bool)
        if self.past is None:
            tokens, mask = torch.cat([self.tokens, tokens], 1), torch.cat([self.mask, mask], 1)
        self.tokens, self.mask = tokens, mask


def decode(
    model: models.Model,
    tokens: Int[Tensor, "b n"],
    mask: Bool[Tensor, "b n"],
    numbers: Sequence[int],
    settings: SamplingSettings,
    session: TokenSession | None = None,
    indices: Sequence[int] | None = None,
    prefill: Prefill | None = None,
    on_step: Callable[[list[list[int]]], None] | None = None,
) -> list[list[int]]:
    """Continue left-padded prompts. Rows whose texts have ended are dropped once they are half of the batch.

    Args:
        model: A TransformerLens model.
        tokens: Token ids of the prompts.
        mask: True for real tokens, False for padding.
        numbers: Each row's prompt number: with the seed it determines the row's random numbers.
        settings: Length, temperature, seed, stop tokens and cache.
        session: See `generate`.
        indices: Each row's index in the caller's list, for sessions that run several conditions; default: `numbers`.
        prefill: Cache of unedited prompts, used where no edit touches them and the key-value cache is on.
        on_step: Called after each token with the new token ids so far.

    Returns:
        New token ids per row, without the token that ended it.
    """
    n_new = settings.max_new_tokens
    out: list[list[int]] = [[] for _ in numbers]
    draws = np.stack([uniforms(settings.seed, i, n_new) for i in numbers]) if settings.temperature else None
    session = in_force(model, session)
    if session is not None:
        session.set_rows(numbers if indices is None else indices)
    past = models.KVCache() if settings.cache else None
    running = _RunningBatch(
        tokens, mask, past, np.arange(len(numbers)), np.zeros(len(numbers), dtype=bool), tokens.shape[1]
    )
    for step in range(n_new):
        if step == 0 and prefill is not None and settings.cache and prefill.fits(session):
            running.past, prompt_logits = prefill.run(model, tokens, mask)
            logits = prompt_logits[:, -1]
        elif step == 0 and settings.cache and session is None and not models.has_hooks(model):
            running.past, prompt_logits = run_distinct(model, tokens, mask)
            logits = prompt_logits[:, -1]
        else:
            logits = running.next_logits(model, session, first=step == 0)
        u = torch.zeros(len(logits)) if draws is None else torch.from_numpy(draws[running.prompts, step])
        new = pick(logits, settings.temperature, u.to(logits.device))
        running.record(new, settings.stops, out)
        if on_step is not None:
            on_step(out)
        if running.ended.all() or step + 1 == n_new:
            break
        if 2 * running.ended.sum() >= len(running.ended):
            new = new[running.drop_ended(session)]
        running.append(new)
    if session is not None:
        session.set_rows([])  # rows of later passes are other prompts
    return out
