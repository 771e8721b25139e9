"""Texts that were written before: kept by model, edits, prompt and decoding, so that no condition is generated twice.

A text's key holds the model's fingerprint (its weights), the edits' identity, the prompt and what decodes it. At a
temperature above 0 a prompt's random numbers hang on its number, so that number and seed belong to the key; greedy texts
know neither. Batch size does not: it has no effect on the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neva_tl import models
from neva_tl.core.cache import JsonCache, content_key
from neva_tl.core.errors import InputError
from neva_tl.editing import Edit, content_hash
from neva_tl.evaluation.conditions.decoding import Decoding

#: Texts written between two commits: what a killed run may lose.
CHUNK = 1024
#: Raised when the same key would stand for other texts (a change of decoding or of prompts' encoding).
VERSION = 1


def text_keys(
    model: models.Model, edits: Sequence[Edit], prompts: Sequence[str], numbers: Sequence[int], how: Decoding
) -> list[str]:
    """One key per prompt under the edits.

    Args:
        model: told apart by its weights' hash as it was when first asked (see `models.fingerprint`).
        edits: in force; their order counts.
        prompts: as the user gave them (role prompts are part of the edits).
        numbers: each prompt's number, which fixes its random numbers.
        how: decoding.

    Raises:
        InputError: an edit cannot be told by its content, or something else hooks into the model, which no key could say.
    """
    if models.has_hooks(model):
        raise InputError(
            "the model carries hooks (an edit around this call?): texts under them cannot be cached; pass the edit itself, "
            "or leave the cache out"
        )
    who = content_key(models.fingerprint(model), [content_hash(item) for item in edits])
    sampled = how.temperature > 0
    decoding = [how.max_new_tokens, how.chat, *((how.temperature, how.seed) if sampled else ())]
    return [
        content_key("text", VERSION, who, decoding, prompt, int(number) if sampled else None)
        for prompt, number in zip(prompts, numbers, strict=True)
    ]


def cacheable(edits: Sequence[Edit]) -> bool:
    """Whether a text under these edits is the same in whatever batch it is written."""
    return all(item.by_token for item in edits)


def recall(
    cache: JsonCache, keys: Sequence[str], lengths: Sequence[int], write: Callable[[list[int]], list[str]]
) -> list[str]:
    """The texts of some keys: those known, and the others written now, each once, and kept chunk by chunk.

    Args:
        cache: where they are kept.
        keys: one per text wanted.
        lengths: of the prompts; like lengths are written together, for full batches.
        write: makes the texts at some places of `keys`.
    """
    found = cache.get_many(keys)
    first = {key: place for place, key in reversed(list(enumerate(keys))) if key not in found}
    new = sorted(first.values(), key=lambda place: (lengths[place], place))
    for start in range(0, len(new), CHUNK):
        places = new[start : start + CHUNK]
        made = {keys[place]: text for place, text in zip(places, write(places), strict=True)}
        cache.put_many(made)
        found |= made
    return [found[key] for key in keys]
