"""Generation with common random numbers across conditions."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models.inference.encoding import check_ids, encode_one, pad
from neva_tl.models.inference.prompt_cache import Prefill
from neva_tl.models.inference.sampling import Decoding, decode
from neva_tl.prompts.example import Example

#: Tokens that end a turn in common chat formats.
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>")


def generate(
    model: models.Model,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 24,
    temperature: float = 0.0,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    session: Any = None,
    chat: bool | None = None,
    batch_size: int | None = None,
    stop_at_eos: bool = True,
    cache: bool = True,
    prefill: Prefill | None = None,
    progress: bool = False,
) -> list[str]:
    """Continue prompts, with common random numbers across conditions.

    The uniform that picks token t of prompt number i depends on (seed, i, t) alone (`sampling.uniforms`), and picks by the
    inverse CDF in order of token ids: two conditions that give like distributions give like texts, and batch size and
    composition change nothing.

    Args:
        max_new_tokens: tokens per continuation.
        temperature: 0 is greedy.
        batch_size: prompts in one batch; default by the model's size (`batch_rows`).
        numbers: each prompt's number; default: its place. The same prompt under several conditions has one number.
        session: an edit session; prompt tokens are marked as prompt, new ones as generated.
        chat: force or forbid the chat template; None uses it where the tokenizer has one.
        stop_at_eos: end a text at EOS or an end-of-turn token (not part of the text).
        cache: use the key-value cache (False runs everything again for each token; same texts, slower).
        prefill: keeps unedited prompts between calls; used where every edit has scope `generated`. Call with the model as it
            was when the prompts were first run.

    Returns:
        The continuations, in the order of the prompts, special tokens left out.

    Raises:
        InputError: a prompt and its continuation would exceed the context.
    """
    if isinstance(prompts, str):
        raise InputError("generate takes a list of prompts, not one string")
    if max_new_tokens < 1 or temperature < 0:
        raise InputError("generate needs max_new_tokens >= 1 and temperature >= 0")
    encoded = encode_one(model, [Example(prompt, "") for prompt in prompts], chat=chat)
    check_ids(model, encoded, list(prompts), more=max_new_tokens)
    for number, item in enumerate(encoded):
        if not item.ids:
            raise InputError(f"prompt {number} is empty and this model has no BOS to start from")
    draws = np.arange(len(encoded)) if numbers is None else np.asarray(numbers)
    if len(draws) != len(encoded):
        raise InputError(f"{len(draws)} numbers were given for {len(encoded)} prompts")
    text = models.tokenizer(model)
    stops = stop_ids(model) if stop_at_eos else frozenset[int]()
    how = Decoding(max_new_tokens, temperature, seed, stops, cache)
    out = [""] * len(encoded)
    # rows of like length share a batch; the budget of `group` is a number of rows here
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
    bar = tqdm(total=len(out), desc="generate", unit="text", file=sys.stderr, disable=not progress)
    with bar:
        size = batch_rows(model) if batch_size is None else batch_size
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            batch = pad(model, [encoded[i] for i in rows], "left")
            written = decode(model, batch.tokens, batch.mask, draws[rows].tolist(), how, session, rows, prefill)
            for index, ids in zip(rows, written, strict=True):
                out[index] = _continuation(text, encoded[index].ids[-1], ids)
            bar.update(len(rows))
    return out


def batch_rows(model: models.Model) -> int:
    """Rows of a decoding batch: 64, and up to 512 on narrow models, where most of a small pass is overhead (measured)."""
    facts = models.info(model)
    return min(max(2**18 // (facts.n_layers * facts.d_model), 64), 512)


def _continuation(text: Any, before: int, ids: Sequence[int]) -> str:
    """Text of new tokens as it stands behind the token before them (alone, some tokenizers drop a leading space)."""
    head = text.decode([before], skip_special_tokens=True)
    whole = text.decode([before, *ids], skip_special_tokens=True)
    return whole[len(head) :] if whole.startswith(head) else text.decode(list(ids), skip_special_tokens=True)


def stop_ids(model: models.Model) -> frozenset[int]:
    """Tokens that end a text: EOS, and the end-of-turn tokens of common chat formats where the tokenizer has them."""
    text = models.tokenizer(model)
    found = {text.eos_token_id} if text.eos_token_id is not None else set()
    if models.info(model).chat:
        known = text.get_vocab()
        found |= {known[t] for t in TURN_ENDS if t in known}
    return frozenset(int(i) for i in found)
