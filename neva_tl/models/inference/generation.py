"""Generation with common random numbers across conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
from neva_tl.models.inference.encoding import check_ids, encode_one, pad
from neva_tl.models.inference.prompt_cache import Prefill
from neva_tl.models.inference.sampling import SamplingSettings, decode
from neva_tl.models.inference.session import TokenSession
from neva_tl.prompts.example import Example, Messages

#: Tokens that end a turn in common chat formats.
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>")


@check_arguments
def generate(
    model: models.Model,
    prompts: str | Sequence[str | Messages],
    *,
    max_new_tokens: int = 24,
    temperature: float = 0.0,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    session: TokenSession | None = None,
    chat: bool | None = None,
    batch_size: int | None = None,
    stop_at_eos: bool = True,
    cache: bool = True,
    prefill: Prefill | None = None,
    progress: bool = False,
    stream: Callable[[str], None] | None = None,
) -> list[str]:
    """Continue prompts, with common random numbers across conditions.

    The uniform that picks token t of prompt number i depends on (seed, i, t) alone (`sampling.uniforms`), and picks by the
    inverse CDF in order of token ids: two conditions with similar distributions produce similar texts, and the texts do not
    depend on batch size or composition.

    Args:
        model: A TransformerLens model.
        prompts: The prompts, or one text; for a chat model also conversations (messages with `role` and `content`) that end with
            the user's turn.
        max_new_tokens: Tokens per continuation.
        temperature: 0 is greedy.
        seed: Seed of the uniforms.
        numbers: Each prompt's number; default: its index. The same prompt under several conditions has one number.
        session: Edit session; by default the sessions in force on the model. Prompt tokens are marked as prompt, new tokens
            as generated.
        chat: True forces the chat template, False forbids it; None uses it where the tokenizer has one.
        batch_size: Prompts in one batch; default by the model's size (`batch_rows`).
        stop_at_eos: End a text at EOS or an end-of-turn token (not part of the text).
        cache: Use the key-value cache (False runs the full text again for each token; same texts, slower).
        prefill: Cache of unedited prompts between calls; used where every edit has scope `generated`. The model must be
            unchanged since the first call.
        progress: Show a progress bar on stderr.
        stream: Called with each new piece of the text as it is generated (one prompt only).

    Returns:
        The continuations, in the order of the prompts, without special tokens.

    Raises:
        InputError: A prompt and its continuation would exceed the context, or a prompt cannot be encoded (see `encode_one`).
    """
    if max_new_tokens < 1 or temperature < 0:
        raise InputError("generate needs max_new_tokens >= 1 and temperature >= 0")
    prompts = [prompts] if isinstance(prompts, str) else prompts
    if stream is not None and len(prompts) != 1:
        raise InputError(f"a stream follows one text, and there are {len(prompts)} prompts")
    examples = [Example.of(prompt) for prompt in prompts]
    encoded = encode_one(model, examples, chat=chat)
    check_ids(model, encoded, [item.prompt for item in examples], more=max_new_tokens)
    for number, item in enumerate(encoded):
        if not item.ids:
            raise InputError(f"prompt {number} is empty and this model has no BOS to start from")
    draws = np.arange(len(encoded)) if numbers is None else np.asarray(numbers)
    if len(draws) != len(encoded):
        raise InputError(f"{len(draws)} numbers were given for {len(encoded)} prompts")
    tokenizer = models.tokenizer(model)
    stops = stop_ids(model) if stop_at_eos else frozenset[int]()
    settings = SamplingSettings(max_new_tokens, temperature, seed, stops, cache)
    out = [""] * len(encoded)
    # rows of similar length share a batch
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
    # a batch of texts takes minutes on a large model, so the bar counts tokens; a text that ends early counts in full
    bar = progress_bar(
        total=len(out) * max_new_tokens, desc=f"writing {len(out)} texts", unit="token", progress=progress, leaf=True
    )
    with bar:
        size = batch_rows(model) if batch_size is None else batch_size
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            batch = pad(model, [encoded[i] for i in rows], "left")
            on_step: Callable[[list[list[int]]], None] | None = None
            if stream is not None:
                on_step = _streamer(tokenizer, encoded[rows[0]].ids[-1], stream)
            elif not bar.disable:
                on_step = partial(_advance, bar, start * max_new_tokens)
            new = decode(
                model, batch.tokens, batch.mask, draws[rows].tolist(), settings, session, rows, prefill, on_step
            )
            for index, ids in zip(rows, new, strict=True):
                out[index] = _continuation(tokenizer, encoded[index].ids[-1], ids)
            bar.update((start + len(rows)) * max_new_tokens - bar.n)
    return out


def _advance(bar: Any, before: int, new: list[list[int]]) -> None:
    """Move a bar to the tokens of earlier batches and of this one so far."""
    bar.update(before + sum(map(len, new)) - bar.n)


def _streamer(tokenizer: Any, before: int, stream: Callable[[str], None]) -> Callable[[list[list[int]]], None]:
    """A callback of `decode` that passes on what each step adds to the text.

    Text that ends in an incomplete character (U+FFFD) waits for its next token.
    """
    sent = ""

    def on_step(new: list[list[int]]) -> None:
        nonlocal sent
        text = _continuation(tokenizer, before, new[0])
        if text.startswith(sent) and len(text) > len(sent) and not text.endswith("\ufffd"):
            stream(text[len(sent) :])
            sent = text

    return on_step


def batch_rows(model: models.Model) -> int:
    """Rows of a decoding batch: 64, and up to 512 on narrow models, where most of a small pass is overhead (measured)."""
    facts = models.info(model)
    return min(max(2**18 // (facts.n_layers * facts.d_model), 64), 512)


def _continuation(tokenizer: Any, before: int, ids: Sequence[int]) -> str:
    """Text of new tokens decoded after the token before them (alone, some tokenizers drop a leading space)."""
    head = tokenizer.decode([before], skip_special_tokens=True)
    text = tokenizer.decode([before, *ids], skip_special_tokens=True)
    return text[len(head) :] if text.startswith(head) else tokenizer.decode(list(ids), skip_special_tokens=True)


def stop_ids(model: models.Model) -> frozenset[int]:
    """Tokens that end a text: EOS, the checkpoint's own end tokens, and end-of-turn tokens of common chat formats.

    Turn ends count where the tokenizer has them and the model is a chat model.
    """
    tokenizer = models.tokenizer(model)
    stops = {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()
    stops |= models.end_tokens(model)
    if models.info(model).chat:
        vocabulary = tokenizer.get_vocab()
        stops |= {vocabulary[t] for t in TURN_ENDS if t in vocabulary}
    return frozenset(int(i) for i in stops)
