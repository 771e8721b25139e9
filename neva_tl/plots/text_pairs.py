"""Pairs of an unedited and a steered text of the same prompt, and the words in which they differ."""

from __future__ import annotations

from difflib import SequenceMatcher

import numpy as np
import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.plots.lens import one_line
from neva_tl.plots.style import at_gain, condition_label, method_order, present_values

#: Longer words are broken, so that every word fits into a column.
LONGEST_WORD = 30

#: Words that both texts share count as shared only in runs of this length: single articles and full stops match by chance.
SHORTEST_RUN = 2

#: A word and whether the other text lacks it at this position.
Word = tuple[str, bool]


def text_pairs(
    table: pd.DataFrame, value: str | None = None, method: str | None = None, target_gain: float | None = None
) -> tuple[pd.DataFrame, str, str]:
    """Return the texts of each prompt with their scores, the steered value, a label.

    Args:
        table: table `generations`: method, steered, prompt, text; target_gain and score_VALUE where available.
        value: The steered value; by default the one whose mean change in score is the median (the upper of two), without
            scores the first in the order of its theory.
        method: The method; by default the first that has steered texts.
        target_gain: The matched gain; by default the largest.

    Returns:
        One row per prompt and repetition (prompt, before, after, score_before, score_after, change), the value and the label of
        the condition. Without steered texts each text is its own pair, and the value is "".

    Raises:
        InputError: The table has no unedited texts, or none of the requested method and value.
    """
    unedited = table[table["method"] == "unedited"]
    steered = table[table["steered"].notna() & (table["method"] != "unedited")]
    methods = method_order(steered["method"])
    if unedited.empty:
        raise InputError("table 'generations' has no unedited texts to compare with")
    if not methods and value is method is None:
        return _join(unedited, unedited, ""), "", "no steered texts"
    method = method or (methods or ["any method"])[0]
    steered = at_gain(steered[steered["method"] == method], target_gain)
    values = present_values(steered["steered"])
    if not values or (value is not None and value not in values):
        raise InputError(
            f"table 'generations' has no texts of {method} towards {value or 'any value'} at this gain: "
            f"methods are {', '.join(methods)}; values of {method}: {', '.join(values) or 'none'}"
        )
    joined = {name: _join(unedited, steered[steered["steered"] == name], name) for name in values}
    if value is None:
        means = {name: pairs["change"].mean() for name, pairs in joined.items()}
        ranked = sorted((name for name in values if np.isfinite(means[name])), key=lambda name: means[name])
        value = ranked[len(ranked) // 2] if ranked else values[0]
    gains = list(steered["target_gain"].dropna()) if "target_gain" in steered.columns else []
    return joined[value], value, condition_label(method, None, gains[0] if gains else None)


def _join(unedited: pd.DataFrame, steered: pd.DataFrame, value: str) -> pd.DataFrame:
    """One row per prompt and repetition that has both texts, with scores and change."""
    score = f"score_{value}"
    sides = []
    for frame, suffix in ((unedited, "before"), (steered, "after")):
        scores = frame[score].astype(float) if score in frame.columns else np.nan
        side = pd.DataFrame({"prompt": frame["prompt"].astype(str), suffix: frame["text"].astype(str)})
        side[f"score_{suffix}"] = scores
        side["repetition"] = side.groupby("prompt").cumcount()
        sides.append(side)
    pairs = sides[0].merge(sides[1], on=["prompt", "repetition"])
    return pairs.assign(change=pairs["score_after"] - pairs["score_before"])


def word_diff(before: str, after: str, words: int, longest: int = LONGEST_WORD) -> tuple[list[Word], list[Word]]:
    """Return the words of both texts, each marked True where the texts differ.

    Args:
        before: The unedited text.
        after: The steered text.
        words: Maximum number of words of a text; an ellipsis replaces the rest.
        longest: See `split_words`.
    """
    first, second = split_words(before, words, longest), split_words(after, words, longest)
    marks = [[True] * len(first), [True] * len(second)]
    if first == second:
        return [(word, False) for word in first], [(word, False) for word in second]
    for block in SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks():
        if block.size < SHORTEST_RUN:
            continue
        marks[0][block.a : block.a + block.size] = [False] * block.size
        marks[1][block.b : block.b + block.size] = [False] * block.size
    return list(zip(first, marks[0], strict=True)), list(zip(second, marks[1], strict=True))


def split_words(text: str, most: int, longest: int = LONGEST_WORD) -> list[str]:
    """Return the first `most` words, long ones broken, an ellipsis where more follow.

    Args:
        text: Any text.
        most: Maximum number of words.
        longest: Maximum number of characters of a word; longer ones are broken.
    """
    words = one_line(text, len(text)).split()
    broken = [w[i : i + longest] for w in words[:most] for i in range(0, len(w), longest)]
    return [*broken[:most], "…"] if len(words) > most or len(broken) > most else broken or ["(empty)"]
