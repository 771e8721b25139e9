"""Repetition and legibility by hand."""

from __future__ import annotations

import pytest

from neva_tl.evaluation.judges import legible, repeated_share


def test_repetition_by_hand():
    assert repeated_share("a b c") == 0.0
    assert repeated_share("a b c d e f g") == 0.0
    # 9 four-grams over "a b c d" thrice, 4 of them distinct
    assert repeated_share("a b c d a b c d a b c d") == pytest.approx(1 - 4 / 9)
    assert list(legible(["", "  ", "...", "I went home.", "no " * 20])) == [False, False, False, True, False]
