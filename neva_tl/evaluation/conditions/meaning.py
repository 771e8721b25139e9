"""Meaning kept: similarity of rewritten answers to the first ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from neva_tl.core.errors import InputError


def meaning_kept(before: Sequence[str], after: Sequence[str]) -> tuple[Float[np.ndarray, " n"], str]:
    """Measure how similar each text is to its rewritten form.

    Sentence embeddings of all-MiniLM-L6-v2 are used where its package is installed, else TF-IDF of these texts' words. Both
    work offline.

    Args:
        before: The texts.
        after: The rewritten texts.

    Returns:
        Cosines, NaN where a text is empty; and the measure, `embedding` or `tfidf`.

    Example:
        >>> from neva_tl.evaluation.conditions.meaning import meaning_kept
        >>> cosine, measure = meaning_kept(["The king helps Tom."], ["The king helps Tom."])
        >>> round(float(cosine[0]), 3)
        1.0
    """
    from neva_tl.evaluation.judges.features import embed

    try:
        first, second = (embed(texts).astype(np.float64) for texts in (before, after))
        measure = "embedding"
    except InputError:  # the package is missing
        first, second = tfidf(before, after)
        measure = "tfidf"
    size = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosine = np.divide((first * second).sum(axis=1), size, out=np.full(len(size), np.nan), where=size > 0)
    empty = [not (a.strip() and b.strip()) for a, b in zip(before, after, strict=True)]
    return np.where(empty, np.nan, cosine), measure


def tfidf(before: Sequence[str], after: Sequence[str]) -> tuple[Float[np.ndarray, "n w"], Float[np.ndarray, "n w"]]:
    """Weigh the words of both lists by their frequency in a text and their rarity in all texts.

    Args:
        before: The texts.
        after: The rewritten texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        table = TfidfVectorizer().fit_transform([*before, *after]).toarray()
    except ValueError:  # no text has a word
        table = np.zeros((len(before) + len(after), 1))
    return table[: len(before)], table[len(before) :]
