"""Tokens of value words in any tokenizer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ, ValueName, ValueTheory, in_order, resolve_theory

#: The first token of a longer word represents it if it has at least this many letters and half of the word's letters: "surpr"
#: represents surprising, but "she" does not represent shelter.
SHORTEST_PIECE = 4
#: Number of first tokens, the longest ones, that represent a value without other tokens (tiny vocabularies).
FALLBACK = 3
COLUMNS = ("value", "word", "token", "text", "space", "multi", "shared")


@check_arguments
def default_words(
    model: models.Model, values: Sequence[ValueName], theory: ValueTheory | None = None
) -> dict[str, tuple[str, ...]]:
    """Return half A of our word lists: the demo world's words for the demo model, English words for others.

    Half B is reserved for the judges. A value without a list is represented by the words of its name.

    Args:
        model: A TransformerLens model.
        values: Names of the values.
        theory: Theory with word lists; None takes the one that the names imply.

    Example:
        >>> words = nv.attribution.default_words(model, ["power"])
        >>> words["power"][:3]
        ('army', 'bank', 'buy')
    """
    from neva_tl import prompts

    resolved = resolve_theory(theory, values)
    if models.info(model).demo and resolved == SCHWARTZ:
        from neva_tl import demo

        return {name: tuple(demo.words(name, "A")) for name in values}
    return {name: prompts.words(name, "A", theory=resolved) or _name_words(name) for name in values}


def _name_words(name: str) -> tuple[str, ...]:
    """Return the longer words of a name, or the name itself."""
    words = re.findall(r"\w+", name)
    return tuple(word for word in words if len(word) >= SHORTEST_PIECE) or (name,)


@check_arguments
def value_tokens(
    model: models.Model,
    values: Sequence[ValueName],
    words: Mapping[ValueName, Sequence[str]] | None = None,
    theory: ValueTheory | None = None,
    *,
    strict: bool = True,
) -> pd.DataFrame:
    """Return the tokens that represent each value's words, with and without a leading space.

    A word of several tokens is represented by its first one (flag `multi`) if that has at least four letters and half of
    the word's letters. A value without any such token is represented by the three longest first tokens of its words. A
    token of two values has the flag `shared`; attributions to values ignore it. White space and special tokens (`<unk>`)
    represent no word.

    Args:
        model: A TransformerLens model.
        values: Names of the values.
        words: Value -> words; default: half A of our lists (see `default_words`).
        theory: Theory of the values; None takes the one that their names imply.
        strict: Whether a value without words or without a token is an error; False leaves its rows out.

    Returns:
        One row per (value, token), in the order of the theory: value, word (the first with this token), token (id), text, space,
        multi, shared.

    Raises:
        InputError: A value without words, or with words that give no token (only where `strict`).

    Example:
        >>> table = nv.attribution.value_tokens(model, ["power", "benevolence"])
        >>> table.columns.tolist()
        ['value', 'word', 'token', 'text', 'space', 'multi', 'shared']
    """
    if not len(values):
        raise InputError("no values are named: give at least one")
    resolved = resolve_theory(theory, values)
    names = resolved.in_order(values)
    words = default_words(model, names, resolved) if words is None else words
    tokenizer = models.tokenizer(model)
    special = set(tokenizer.all_special_ids)
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for name in names:
        if not words.get(name):
            if not strict:
                continue
            raise InputError(f"no words for {name}: give words={{'{name}': [...]}}")
        first_tokens: dict[int, dict[str, Any]] = {}
        for word in filter(str.strip, words[name]):
            for space in (True, False):
                ids = _ids(tokenizer, word, space)
                text = token_text(tokenizer, ids[0]) if ids else ""
                if not text.strip() or ids[0] in special:
                    continue
                multi = len(ids) > 1
                row = {"value": name, "word": word, "token": ids[0], "text": text, "space": space, "multi": multi}
                if multi and len(text.strip()) < max(SHORTEST_PIECE, len(word) / 2):
                    first_tokens.setdefault(ids[0], row)
                    continue
                existing = rows.get((name, ids[0]))
                # a word that consists of this token describes it better than a word that only begins with it
                if existing is None or (existing["multi"] and not multi):
                    rows[name, ids[0]] = row
        if not any(key[0] == name for key in rows):
            longest = sorted(first_tokens.values(), key=lambda row: -len(row["text"].strip()))[:FALLBACK]
            rows |= {(name, row["token"]): row for row in longest}
        if strict and not any(key[0] == name for key in rows):
            raise InputError(
                f"none of the words for {name} gives a usable token in the tokenizer of {models.info(model).name}"
            )
    table = pd.DataFrame(list(rows.values()), columns=list(COLUMNS[:-1]))
    table["shared"] = (table.groupby("token")["value"].transform("nunique") > 1).astype(bool)
    return table[list(COLUMNS)]


def without_token(table: pd.DataFrame, values: Sequence[str], theory: ValueTheory | None = None) -> tuple[str, ...]:
    """Return the values that have no row in a table of `value_tokens`, in the order of the theory.

    Args:
        table: The table, made with `strict=False`.
        values: Names of the values.
        theory: Theory of the values; None takes the one that their names imply.

    Example:
        >>> table = nv.attribution.value_tokens(model, ["power"])
        >>> nv.attribution.without_token(table, ["power", "benevolence"])
        ('benevolence',)
    """
    present = set(table["value"])
    return tuple(name for name in in_order(values, theory) if name not in present)


def _ids(tokenizer: Any, word: str, space: bool) -> list[int]:
    """Return a word's tokens at the start of a text, or after another word.

    The tokens are determined in context, since tokenizers differ in their handling of a lone leading space.
    """
    if not space:
        return list(tokenizer.encode(word, add_special_tokens=False))
    before = list(tokenizer.encode("the", add_special_tokens=False))
    both = list(tokenizer.encode(f"the {word}", add_special_tokens=False))
    return both[len(before) :] if both[: len(before)] == before else []


@check_arguments
def token_text(tokenizer: Any, token: int) -> str:
    """Return a token as it reads in running text, with its leading space (SentencePiece decoders drop it).

    Args:
        tokenizer: The tokenizer.
        token: Id of the token.

    Example:
        >>> tokenizer = nv.models.tokenizer(model)
        >>> nv.attribution.token_text(tokenizer, tokenizer("mara says")["input_ids"][-1])
        'says'
    """
    raw = tokenizer.convert_ids_to_tokens(int(token))
    text = str(tokenizer.decode([int(token)]))
    return f" {text}" if isinstance(raw, str) and raw.startswith("▁") and not text.startswith(" ") else text
