"""Scoring texts: forward passes of batches, log-probabilities, KL divergence.

Independent of the TransformerLens version: every forward pass goes through `models.forward`. An edit session (see `editing`)
learns before each pass which tokens count as generated: answer tokens and neutral text do; otherwise an edit restricted to
generated tokens would appear to be free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
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
from neva_tl.models.inference.prompt_cache import PrefixCache, prompt_batch
from neva_tl.models.inference.session import TokenSession, in_force
from neva_tl.models.pass_spec import PassSpec
from neva_tl.prompts.example import Example


def forward_batch(
    model: Model,
    batch: Batch,
    *,
    session: TokenSession | None = None,
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
        session: The edit session that `edit(...)` yields; by default the sessions in force on the model.
        stop_at_layer: Stop after block `stop_at_layer - 1`, without logits.
        logits: False skips the LM head.
        positions: Return logits at these positions only.
        scored: Return logits of these tokens only, in reading order.
        packed: Run the real tokens alone, end to end, without logits (where `models.packable`).
        grad: Keep the graph for gradients of activations.

    Returns:
        Logits `[b, n or m, d_vocab]`, with `scored` `[m, d_vocab]`, or None.
    """
    session = in_force(model, session)
    if session is not None:
        session.mark(batch.answer, batch.mask)
    spec = PassSpec(stop_at_layer, logits, positions, scored, packed, grad)
    return run_pass(model, batch.tokens, batch.mask, spec)


def _answer_logits(
    model: Model, batch: Batch, session: TokenSession | None
) -> tuple[Float[Tensor, "m d_vocab"], Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Log-probabilities over the vocabulary at the position before every answer token, its row, and the token itself.

    An answer token at position 0 has no token before it and is not scored.
    """
    scored = torch.zeros_like(batch.answer)
    scored[:, :-1] = batch.answer[:, 1:]
    logits = forward_batch(model, batch, session=session, scored=scored)
    assert logits is not None
    return torch.log_softmax(logits.float(), dim=-1), scored.nonzero()[:, 0], batch.tokens[:, 1:][scored[:, :-1]]


def _token_logprobs(model: Model, batch: Batch, session: TokenSession | None) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability of every scored answer token (float64) and its row, in reading order."""
    logprobs, rows, tokens = _answer_logits(model, batch, session)
    values = logprobs.gather(1, tokens[:, None]).squeeze(1)
    return values.double().cpu().numpy(), rows.cpu().numpy()


@check_arguments
def answer_logprobs(
    model: Model,
    examples: Sequence[Example],
    *,
    session: TokenSession | None = None,
    chat: bool | None = None,
    token_budget: int = 4096,
    prefix: PrefixCache | None = None,
    progress: bool = False,
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Summed log-probability of each answer given its prompt, and the number of its tokens.

    Args:
        model: A TransformerLens model.
        examples: The examples.
        session: Edit session; by default the sessions in force on the model. Answer tokens count as generated.
        chat: True forces the chat template, False forbids it; None uses it where the tokenizer has one.
        token_budget: Tokens of a forward pass, padding included.
        prefix: Cache of the unedited prompts: only answer tokens are run. Used where it is exact (no edit in force, or edits
            that all have scope `generated`) and contains the prompt; other examples are run in full.
        progress: Show a progress bar on stderr.

    Returns:
        `(sums in nats, counts)`, in the order of the examples.

    Raises:
        InputError: An answer without a token that can be scored, or an example longer than the context.
    """
    encoded = encode_one(model, examples, chat=chat)
    for number, item in enumerate(encoded):
        if len(item.ids) <= max(item.start, 1):
            raise InputError(f"example {number} ({examples[number].prompt[:40]!r}) has no answer token to score")
    return encoded_logprobs(
        model, encoded, session=session, token_budget=token_budget, prefix=prefix, progress=progress
    )


@check_arguments
def encoded_logprobs(
    model: Model,
    encoded: Sequence[Encoded],
    *,
    session: TokenSession | None = None,
    token_budget: int = 4096,
    prefix: PrefixCache | None = None,
    progress: bool = False,
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """`answer_logprobs` of encoded examples.

    Args:
        model: A TransformerLens model.
        encoded: Token ids of the examples.
        session: See `answer_logprobs`.
        token_budget: See `answer_logprobs`.
        prefix: See `answer_logprobs`.
        progress: See `answer_logprobs`.

    Returns:
        `(sums in nats, counts)`, in the order of the examples.
    """
    total = np.zeros(len(encoded))
    count = np.array([len(item.ids) - max(item.start, 1) for item in encoded], dtype=np.int64)
    bar = progress_bar(total=len(encoded), desc="log-probabilities", unit="text", progress=progress, leaf=True)
    with bar:
        remaining = np.arange(len(encoded))
        if prefix is not None and prefix.exact_for(model, session):
            scored = prefix.score(encoded, total, session=session, token_budget=token_budget, update=bar.update)
            remaining = remaining[~scored]
        shared = _one_token_answers(encoded, remaining)
        all_prompts = list(shared)
        for rows in group([len(ids) for ids in all_prompts], token_budget):
            prompts = [all_prompts[i] for i in rows]
            logprobs = _next_logprobs(model, prompts, session)
            for row, ids in enumerate(prompts):
                for number in shared[ids]:
                    total[number] = float(logprobs[row, encoded[number].ids[-1]])
                bar.update(len(shared[ids]))
        remaining = np.setdiff1d(remaining, [number for numbers in shared.values() for number in numbers])
        for rows in group([len(encoded[i].ids) for i in remaining.tolist()], token_budget):
            indices = remaining[rows]
            values, row_of = _token_logprobs(model, pad(model, [encoded[i] for i in indices]), session)
            np.add.at(total, indices[row_of], values)
            bar.update(len(indices))
    return total, count


@check_arguments
def answer_greedy(
    model: Model,
    encoded: Sequence[Encoded],
    *,
    session: TokenSession | None = None,
    token_budget: int = 4096,
    progress: bool = False,
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Summed log-probability of each answer, and whether greedy decoding from the prompt would generate it.

    Args:
        model: A TransformerLens model.
        encoded: Token ids, each with at least one answer token after another token.
        session: Edit session; by default the sessions in force on the model. Answer tokens count as generated.
        token_budget: Tokens of a forward pass, padding included.
        progress: Show a progress bar on stderr.

    Returns:
        `(sums in nats, flags)`; a flag is True where every answer token is the most probable one at its position.
    """
    total, greedy = np.zeros(len(encoded)), np.ones(len(encoded), dtype=bool)
    bar = progress_bar(total=len(encoded), desc="greedy", unit="text", progress=progress, leaf=True)
    with bar:
        for rows in group([len(item.ids) for item in encoded], token_budget):
            logprobs, row, tokens = _answer_logits(model, pad(model, [encoded[i] for i in rows.tolist()]), session)
            index = rows[row.cpu().numpy()]
            values = logprobs.gather(1, tokens[:, None]).squeeze(1)
            np.add.at(total, index, values.double().cpu().numpy())
            np.logical_and.at(greedy, index, (logprobs.argmax(dim=-1) == tokens).cpu().numpy())
            bar.update(len(rows))
    return total, greedy


def _one_token_answers(
    encoded: Sequence[Encoded], remaining: Int[np.ndarray, " n"]
) -> dict[tuple[int, ...], list[int]]:
    """Prompts shared by several answers of one token (multiple choice), which are run once -> indices of the examples."""
    examples_of: dict[tuple[int, ...], list[int]] = {}
    for number in remaining.tolist():
        item = encoded[number]
        if 0 < item.start == len(item.ids) - 1:
            examples_of.setdefault(tuple(item.ids[:-1]), []).append(number)
    return {ids: numbers for ids, numbers in examples_of.items() if len(numbers) > 1}


def _next_logprobs(
    model: Model, prompts: Sequence[tuple[int, ...]], session: TokenSession | None
) -> Float[Tensor, "b d_vocab"]:
    """Log-probabilities (float64, CPU) of the token after each prompt."""
    batch = prompt_batch(model, prompts)
    end = torch.tensor([batch.tokens.shape[1] - 1], device=batch.tokens.device)
    logits = forward_batch(model, batch, session=session, positions=end)
    assert logits is not None
    return torch.log_softmax(logits[:, -1].float(), dim=-1).double().cpu()


@check_arguments
def neutral_logprobs(
    model: Model,
    texts: Sequence[str],
    *,
    session: TokenSession | None = None,
    token_budget: int = 4096,
    progress: bool = False,
) -> list[Float[np.ndarray, " t"]]:
    """Log-probability of every token of plain texts (no chat template); all of them count as generated.

    Args:
        model: A TransformerLens model.
        texts: The texts.
        session: Edit session; by default the sessions in force on the model.
        token_budget: Tokens of a forward pass, padding included.
        progress: Show a progress bar on stderr.

    Returns:
        Per text the log-probabilities in nats, in reading order (the first token is scored only after a BOS);
        perplexity is `exp(-mean)`.
    """
    out: list[np.ndarray] = [np.zeros(0)] * len(texts)
    examples = [Example("", text) for text in texts]
    bar = progress_bar(total=len(texts), desc="neutral text", unit="text", progress=progress, leaf=True)
    with bar:
        for rows, batch in batches(model, examples, token_budget=token_budget, chat=False):
            values, row = _token_logprobs(model, batch, session)
            for position, index in enumerate(rows):
                out[index] = values[row == position]
            bar.update(len(rows))
    return out


@check_arguments
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
        model: A TransformerLens model.
        texts: The texts.
        edited: Factory of the edit's context manager, e.g. `lambda: edit(model, *edits)`; entered once per batch, so
            that no distribution is stored beyond its batch.
        token_budget: Tokens of a forward pass, padding included.
        progress: Show a progress bar on stderr.

    Returns:
        Per text one value per scored token.
    """
    out: list[np.ndarray] = [np.zeros(0)] * len(texts)
    examples = [Example("", text) for text in texts]
    bar = progress_bar(total=len(texts), desc="KL", unit="text", progress=progress, leaf=True)
    with bar:
        for rows, batch in batches(model, examples, token_budget=token_budget, chat=False):
            plain, row, _ = _answer_logits(model, batch, None)
            with edited() as session:
                other, _, _ = _answer_logits(model, batch, session)
            values = (plain.exp() * (plain - other)).sum(dim=1).double().cpu().numpy()
            for position, index in enumerate(rows):
                out[index] = values[row.cpu().numpy() == position]
            bar.update(len(rows))
    return out
