"""Running a model: forward passes of batches, log-probabilities, generation.

Knows no TransformerLens version: every forward pass goes through `models.forward`. An edit session (see `editing`) is
told before each forward which tokens count as generated: answer tokens and neutral text do, else an edit of generated
tokens would cost nothing on paper.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from neva_tl.core.errors import InputError
from neva_tl.models import Model
from neva_tl.models.forward_pass import run_pass
from neva_tl.models.inference.encoding import (
    Batch,
    Encoded,
    batches,
    encode_one,
    group,
    pad,
)
from neva_tl.models.inference.prompt_cache import PrefixCache
from neva_tl.models.pass_spec import PassSpec
from neva_tl.prompts.example import Example


def forward_batch(
    model: Model,
    batch: Batch,
    *,
    session: Any = None,
    stop_at_layer: int | None = None,
    logits: bool = True,
    positions: Int[Tensor, " m"] | None = None,
    scored: Bool[Tensor, "b n"] | None = None,
    packed: bool = False,
    grad: bool = False,
) -> Tensor | None:
    """One forward pass of a batch; marks its answer tokens as generated in the edit session.

    Args:
        model: The model.
        batch: Token ids, padding mask and answer tokens.
        session: The edit session that `edit(...)` yields.
        stop_at_layer: Stop after block `stop_at_layer - 1`, without logits.
        logits: False skips the LM head.
        positions: Return logits at these positions only.
        scored: Return logits of these tokens only, in reading order.
        packed: Run the real tokens alone, end to end, without logits (where `models.packable`).
        grad: Keep the graph for gradients of activations.

    Returns:
        Logits `[b, n or m, d_vocab]`, with `scored` `[m, d_vocab]`, or None.
    """
    if session is not None:
        session.mark(batch.answer, batch.mask)
    spec = PassSpec(stop_at_layer, logits, positions, scored, packed, grad)
    return run_pass(model, batch.tokens, batch.mask, spec)


def _answer_logits(
    model: Model, batch: Batch, session: Any
) -> tuple[Float[Tensor, "m d_vocab"], Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Log-probabilities over the vocabulary in front of every answer token, its row, and the token itself.

    An answer token at position 0 has nothing in front of it and is not scored.
    """
    scored = torch.zeros_like(batch.answer)
    scored[:, :-1] = batch.answer[:, 1:]
    logits = forward_batch(model, batch, session=session, scored=scored)
    assert logits is not None
    return torch.log_softmax(logits.float(), dim=-1), scored.nonzero()[:, 0], batch.tokens[:, 1:][scored[:, :-1]]


def _token_logprobs(model: Model, batch: Batch, session: Any) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability of every scored answer token (float64) and its row, in reading order."""
    logprobs, rows, tokens = _answer_logits(model, batch, session)
    chosen = logprobs.gather(1, tokens[:, None]).squeeze(1)
    return chosen.double().cpu().numpy(), rows.cpu().numpy()


def answer_logprobs(
    model: Model,
    examples: Sequence[Example],
    *,
    session: Any = None,
    chat: bool | None = None,
    token_budget: int = 4096,
    prefix: PrefixCache | None = None,
    progress: bool = False,
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Summed log-probability of each answer given its prompt, and the number of its tokens.

    Args:
        session: an edit session; answer tokens count as generated.
        chat: force or forbid the chat template; None uses it where the tokenizer has one.
        prefix: a `PrefixCache` of the unedited prompts: only answer tokens are run. Used where it is exact (no
            session, or one whose edits all have scope `generated`) and where it knows the prompt; the plain way else.
        progress: show a bar on stderr.

    Returns:
        `(sums in nats, counts)`, in the order of the examples.

    Raises:
        InputError: an answer without any token that can be scored, or an example longer than the context.
    """
    encoded = encode_one(model, examples, chat=chat)
    for number, item in enumerate(encoded):
        if len(item.ids) <= max(item.start, 1):
            raise InputError(f"example {number} ({examples[number].prompt[:40]!r}) has no answer token to score")
    return encoded_logprobs(
        model, encoded, session=session, token_budget=token_budget, prefix=prefix, progress=progress
    )


def encoded_logprobs(
    model: Model,
    encoded: Sequence[Encoded],
    *,
    session: Any = None,
    token_budget: int = 4096,
    prefix: PrefixCache | None = None,
    progress: bool = False,
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """`answer_logprobs` of examples that are token ids already."""
    total = np.zeros(len(encoded))
    count = np.array([len(item.ids) - max(item.start, 1) for item in encoded], dtype=np.int64)
    bar = tqdm(total=len(encoded), desc="log-probabilities", unit="text", file=sys.stderr, disable=not progress)
    with bar:
        left = np.arange(len(encoded))
        if prefix is not None and prefix.exact_for(model, session):
            done = prefix.score(encoded, total, session=session, token_budget=token_budget, update=bar.update)
            left = left[~done]
        shared = _one_token_answers(encoded, left)
        asked = list(shared)
        for rows in group([len(ids) for ids in asked], token_budget):
            prompts = [asked[i] for i in rows]
            found = _next_logprobs(model, prompts, session)
            for place, ids in enumerate(prompts):
                for number in shared[ids]:
                    total[number] = float(found[place, encoded[number].ids[-1]])
                bar.update(len(shared[ids]))
        left = np.setdiff1d(left, [number for numbers in shared.values() for number in numbers])
        for rows in group([len(encoded[i].ids) for i in left.tolist()], token_budget):
            chosen = left[rows]
            values, row = _token_logprobs(model, pad(model, [encoded[i] for i in chosen]), session)
            np.add.at(total, chosen[row], values)
            bar.update(len(chosen))
    return total, count


def answer_greedy(
    model: Model, encoded: Sequence[Encoded], *, session: Any = None, token_budget: int = 4096, progress: bool = False
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Summed log-probability of each answer, and whether every one of its tokens is the most probable one at its place.

    The second says whether greedy decoding from the prompt would write the answer.

    Args:
        encoded: token ids, each with at least one answer token behind another token.
        session: an edit session; answer tokens count as generated.
    """
    total, greedy = np.zeros(len(encoded)), np.ones(len(encoded), dtype=bool)
    bar = tqdm(total=len(encoded), desc="greedy", unit="text", file=sys.stderr, disable=not progress)
    with bar:
        for rows in group([len(item.ids) for item in encoded], token_budget):
            logprobs, row, tokens = _answer_logits(model, pad(model, [encoded[i] for i in rows.tolist()]), session)
            place = rows[row.cpu().numpy()]
            chosen = logprobs.gather(1, tokens[:, None]).squeeze(1)
            np.add.at(total, place, chosen.double().cpu().numpy())
            np.logical_and.at(greedy, place, (logprobs.argmax(dim=-1) == tokens).cpu().numpy())
            bar.update(len(rows))
    return total, greedy


def _one_token_answers(encoded: Sequence[Encoded], left: Int[np.ndarray, " n"]) -> dict[tuple[int, ...], list[int]]:
    """Prompts that several answers of one token share (multiple choice), with the examples' numbers: they are run once."""
    found: dict[tuple[int, ...], list[int]] = {}
    for number in left.tolist():
        item = encoded[number]
        if 0 < item.start == len(item.ids) - 1:
            found.setdefault(tuple(item.ids[:-1]), []).append(number)
    return {ids: numbers for ids, numbers in found.items() if len(numbers) > 1}


def _next_logprobs(model: Model, prompts: Sequence[tuple[int, ...]], session: Any) -> Float[Tensor, "b d_vocab"]:
    """Log-probabilities (float64, CPU) of what comes after each prompt."""
    # left padding: every prompt ends at the same place
    batch = pad(model, [Encoded(ids, len(ids)) for ids in prompts], "left")
    end = torch.tensor([batch.tokens.shape[1] - 1], device=batch.tokens.device)
    logits = forward_batch(model, batch, session=session, positions=end)
    assert logits is not None
    return torch.log_softmax(logits[:, -1].float(), dim=-1).double().cpu()


def neutral_logprobs(
    model: Model,
    texts: Sequence[str],
    *,
    session: Any = None,
    token_budget: int = 4096,
    progress: bool = False,
) -> list[Float[np.ndarray, " t"]]:
    """Log-probability of every token of plain texts (no chat template); all of them count as generated.

    Returns:
        Per text the log-probabilities in nats, in reading order (the first token is scored only after a BOS):
        perplexity is `exp(-mean)`.
    """
    out: list[np.ndarray] = [np.zeros(0)] * len(texts)
    examples = [Example("", text) for text in texts]
    bar = tqdm(total=len(texts), desc="neutral text", unit="text", file=sys.stderr, disable=not progress)
    with bar:
        for rows, batch in batches(model, examples, token_budget=token_budget, chat=False):
            values, row = _token_logprobs(model, batch, session)
            for place, index in enumerate(rows):
                out[index] = values[row == place]
            bar.update(len(rows))
    return out


def token_kl(
    model: Model,
    texts: Sequence[str],
    edited: Callable[[], AbstractContextManager[Any]],
    *,
    token_budget: int = 2048,
    progress: bool = False,
) -> list[Float[np.ndarray, " t"]]:
    """KL(unedited || edited) of the next-token distribution at every token of plain texts, in nats.

    Args:
        edited: makes the context manager of the edit, e.g. `lambda: edit(model, *edits)`; entered once per batch, so
            that no distribution is kept beyond its batch.

    Returns:
        Per text one value per scored token.
    """
    out: list[np.ndarray] = [np.zeros(0)] * len(texts)
    examples = [Example("", text) for text in texts]
    bar = tqdm(total=len(texts), desc="KL", unit="text", file=sys.stderr, disable=not progress)
    with bar:
        for rows, batch in batches(model, examples, token_budget=token_budget, chat=False):
            plain, row, _ = _answer_logits(model, batch, None)
            with edited() as session:
                other, _, _ = _answer_logits(model, batch, session)
            values = (plain.exp() * (plain - other)).sum(dim=1).double().cpu().numpy()
            for place, index in enumerate(rows):
                out[index] = values[row.cpu().numpy() == place]
            bar.update(len(rows))
    return out
