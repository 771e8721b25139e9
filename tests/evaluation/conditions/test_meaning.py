"""Similarity of rewritten answers: embeddings where they are installed, else TF-IDF, both held to hand-made numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from neva_tl.core.errors import InputError
from neva_tl.evaluation.conditions.meaning import meaning_kept
from neva_tl.evaluation.judges import features

pytestmark = pytest.mark.core


def test_tfidf_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(texts: Sequence[str]) -> np.ndarray:
        raise InputError("sentence embeddings need the package")

    monkeypatch.setattr(features, "embed", missing)
    cosine, measure = meaning_kept(["red cat", "blue", ""], ["red dog", "green", "cat"])
    assert measure == "tfidf"
    # six texts, one of them empty: red in 2, cat in 2, dog in 1
    red, cat, dog = (math.log(7 / (1 + n)) + 1 for n in (2, 2, 1))
    assert cosine[0] == pytest.approx(red**2 / (math.hypot(red, cat) * math.hypot(red, dog)))
    assert cosine[1] == 0 and np.isnan(cosine[2])
    assert np.isnan(meaning_kept([""], [" "])[0]).all()


def test_embeddings_are_compared_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = {"a": (3.0, 4.0), "b": (4.0, 3.0), "c": (-3.0, -4.0)}

    def embed(texts: Sequence[str]) -> np.ndarray:
        return np.pad(np.array([vectors[text] for text in texts], dtype=np.float32), ((0, 0), (0, 382)))

    monkeypatch.setattr(features, "embed", embed)
    cosine, measure = meaning_kept(["a", "a", "b"], ["a", "b", "c"])
    assert measure == "embedding"
    np.testing.assert_allclose(cosine, [1.0, 24 / 25, -24 / 25], rtol=1e-6)
