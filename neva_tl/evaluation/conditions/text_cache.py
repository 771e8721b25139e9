"""Cache of generated texts by model, edits, prompt and decoding.

The key of a text contains the model's fingerprint (its weights), the content hash of the edits, the prompt and the decoding
settings. At a temperature above 0 the random numbers of a prompt depend on its index, so the key contains index and seed;
for greedy texts it contains neither. It never contains the batch size, which does not affect the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neva_tl import models
from neva_tl.core.cache import JsonCache, content_key
from neva_tl.core.errors import InputError
from neva_tl.editing import Edit, content_hash
from neva_tl.evaluation.conditions.decoding import Decoding
from neva_tl.models import inference

#: Texts between two commits, the most that a killed run can lose.
CHUNK = 1024
#: Version of the keys; increment it when a change of decoding or encoding would give other texts for the same key.
VERSION = 1


class TextKey(str):
    """Key of a text, with the key that version 0.1 gave it.

    Attributes:
        old: Key with a fingerprint that has no `function`.
    """

    old: str


def text_keys(
    model: models.Model, edits: Sequence[Edit], prompts: Sequence[str], numbers: Sequence[int], decoding: Decoding
) -> list[TextKey]:
    """Return the cache key of each prompt's text.

    Args:
        model: A TransformerLens model, identified by its cached weight hash (see `models.fingerprint`).
        edits: The edits; their order matters.
        prompts: The prompts without role prompts, which are part of the edits.
        numbers: Index of each prompt, which selects its random numbers.
        decoding: Settings of text generation.

    Raises:
        InputError: An edit has no content hash, or the model has other hooks, which a key cannot describe.
    """
    if models.has_hooks(model):
        raise InputError(
            "the model carries hooks (from an enclosing edit?), and texts under them cannot be cached: pass the edit "
            "itself, or use no cache"
        )
    fingerprint, hashes = models.fingerprint(model), [content_hash(item) for item in edits]
    old = {name: fact for name, fact in fingerprint.items() if name != "function"}
    origin, old_origin = content_key(fingerprint, hashes), content_key(old, hashes)
    sampled = decoding.temperature > 0
    settings = [decoding.max_new_tokens, decoding.chat, *((decoding.temperature, decoding.seed) if sampled else ())]
    # keys of version 0.1.0 stay where its token ids stay
    if change := inference.encoding_change(model, decoding.chat):
        settings.append(change)
    keys = []
    for prompt, number in zip(prompts, numbers, strict=True):
        rest = settings, prompt, int(number) if sampled else None
        key = TextKey(content_key("text", VERSION, origin, *rest))
        key.old = content_key("text", VERSION, old_origin, *rest)
        keys.append(key)
    return keys


def cacheable(edits: Sequence[Edit]) -> bool:
    """Return whether a text under these edits is independent of its batch.

    Args:
        edits: The edits.
    """
    return all(item.by_token for item in edits)


def recall(
    cache: JsonCache,
    keys: Sequence[str],
    lengths: Sequence[int],
    write: Callable[[list[int]], list[str]],
    chunk: int | None = None,
) -> list[str]:
    """Return the texts of some keys from the cache; generate and cache the missing ones.

    A text that version 0.1 cached is a hit as well.
    Each missing key is generated once, and the cache is updated after every `chunk` texts.

    Args:
        cache: The cache.
        keys: Key of each text.
        lengths: Lengths of the prompts; prompts of similar length are generated together, for full batches.
        write: Generates the texts at some indices of `keys`.
        chunk: Texts between two commits; None for `CHUNK`.
    """
    texts = cache.get_many(keys)
    old_keys = {key: key.old for key in keys if isinstance(key, TextKey) and key not in texts}
    old_texts = cache.get_many(old_keys.values())
    texts |= {key: old_texts[old] for key, old in old_keys.items() if old in old_texts}
    first = {key: i for i, key in reversed(list(enumerate(keys))) if key not in texts}
    new = sorted(first.values(), key=lambda i: (lengths[i], i))
    size = CHUNK if chunk is None else chunk
    for start in range(0, len(new), size):
        indices = new[start : start + size]
        new_texts: dict[str, str] = {keys[i]: text for i, text in zip(indices, write(indices), strict=True)}
        cache.put_many(new_texts)
        texts |= new_texts
    return [texts[key] for key in keys]
