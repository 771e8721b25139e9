"""Value words as tokens of any tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.values import in_circle_order

#: The first piece of a longer word stands for it from this many letters on, if it is at least half of it: "surpr" says
#: surprising, but "she" does not say shelter.
SHORTEST_PIECE = 4
#: Pieces taken, longest first, for a value none of whose words is a token or has such a piece (tiny vocabularies).
FALLBACK = 3
COLUMNS = ("value", "word", "token", "text", "space", "multi", "shared")


def default_words(model: models.Model, values: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Half A of our word lists (half B belongs to the judges): the demo world's own words for the demo model, else
    English.
    """
    if models.info(model).demo:
        from neva_tl import demo

        return {name: tuple(demo.words(name, "A")) for name in values}
    from neva_tl import prompts

    return {name: tuple(prompts.words(name, "A")) for name in values}


def value_tokens(
    model: models.Model, values: Sequence[str], words: Mapping[str, Sequence[str]] | None = None
) -> pd.DataFrame:
    """Tokens that stand for each value's words in the model's own tokenizer, with and without a leading space.

    A word of several tokens is stood for by its first one (flag `multi`) when that has at least four letters and half the
    word's; a value without any such token gets its three longest first pieces. A token that two values claim is flagged
    `shared`; attributions to values leave it out.

    Args:
        values: which values, by name.
        words: value -> words; by default half A of our lists (see `default_words`).

    Returns:
        One row per (value, token), in circle order: value, word (the first that led there), token (id), text, space,
        multi, shared.

    Raises:
        InputError: a value without words, or whose words give no token.
    """
    names = in_circle_order(values)
    words = default_words(model, names) if words is None else words
    tokenizer = models.tokenizer(model)
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for name in names:
        if not words.get(name):
            raise InputError(f"no words for {name}: give words={{'{name}': [...]}}")
        pieces: dict[int, dict[str, Any]] = {}
        for word in filter(str.strip, words[name]):
            for space in (True, False):
                ids = _ids(tokenizer, word, space)
                text = token_text(tokenizer, ids[0]) if ids else ""
                if not text.strip():
                    continue
                multi = len(ids) > 1
                row = {"value": name, "word": word, "token": ids[0], "text": text, "space": space, "multi": multi}
                if multi and len(text.strip()) < max(SHORTEST_PIECE, len(word) / 2):
                    pieces.setdefault(ids[0], row)
                    continue
                held = rows.get((name, ids[0]))
                # A word that is one token describes the token better than a piece of another word does.
                if held is None or (held["multi"] and not multi):
                    rows[name, ids[0]] = row
        if not any(key[0] == name for key in rows):
            longest = sorted(pieces.values(), key=lambda row: -len(row["text"].strip()))[:FALLBACK]
            rows |= {(name, row["token"]): row for row in longest}
        if not any(key[0] == name for key in rows):
            raise InputError(
                f"none of the words for {name} gives a usable token in the tokenizer of {models.info(model).name}"
            )
    table = pd.DataFrame(list(rows.values()))
    table["shared"] = table.groupby("token")["value"].transform("nunique") > 1
    return table[list(COLUMNS)]


def _ids(tokenizer: Any, word: str, space: bool) -> list[int]:
    """A word's tokens at the start of a text, or after another word: found in context, since tokenizers treat a lone
    leading space in their own ways.
    """
    if not space:
        return list(tokenizer.encode(word, add_special_tokens=False))
    before = list(tokenizer.encode("the", add_special_tokens=False))
    both = list(tokenizer.encode(f"the {word}", add_special_tokens=False))
    return both[len(before) :] if both[: len(before)] == before else []


def token_text(tokenizer: Any, token: int) -> str:
    """A token as it reads in running text, its leading space kept (SentencePiece decoders drop it)."""
    raw = tokenizer.convert_ids_to_tokens(int(token))
    text = str(tokenizer.decode([int(token)]))
    return f" {text}" if isinstance(raw, str) and raw.startswith("▁") and not text.startswith(" ") else text
