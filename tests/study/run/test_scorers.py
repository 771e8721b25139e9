"""Item scores as tables and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neva_tl.core.values import VALUES
from neva_tl.evaluation.conditions.decoding import Decoding
from neva_tl.evaluation.conditions.observe import Observed
from neva_tl.evaluation.judges import ItemScores
from neva_tl.study.run.scorers import Scorer, from_frame, to_frame


def own_items(seed: int = 0) -> ItemScores:
    """As the log-probability judge gives them: each value its own items, unbounded, with an affirmation column."""
    rng = np.random.default_rng(seed)
    values, sizes = ("power", "tradition"), (5, 7)
    clusters = tuple(np.array([f"{v}/{i % 3}" for i in range(n)]) for v, n in zip(values, sizes, strict=True))
    extra = {"affirmation": (rng.normal(size=4), np.array(list("abca")))}
    return ItemScores(values, tuple(rng.normal(size=n) for n in sizes), clusters, extra=extra)


def same_items() -> ItemScores:
    """As a text judge gives them: the same texts for all ten values, one score missing."""
    scores = np.random.default_rng(1).uniform(size=(10, 6))
    scores[3, 2] = np.nan
    clusters = np.array(list("aabbcc"))
    return ItemScores(VALUES, tuple(scores), tuple(clusters for _ in VALUES), shared=True, bounds=(0.0, 1.0))


@pytest.mark.parametrize("make", [own_items, same_items])
def test_round_trip(make: Any) -> None:
    items = make()
    frame = to_frame(Observed(items)).sample(frac=1, random_state=np.random.default_rng(0))
    back = from_frame(frame, "score", shared=items.shared)
    assert back is not None
    assert (back.values, back.shared, back.bounds) == (items.values, items.shared, items.bounds)
    for mine, theirs in zip((back.scores, back.clusters), (items.scores, items.clusters), strict=True):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def test_extra_columns_stand_apart() -> None:
    items = own_items()
    frame = to_frame(Observed(items))
    assert set(frame["kind"]) == {"score", "affirmation"}
    back = from_frame(frame, "affirmation", shared=False)
    assert back is not None and back.values == ("affirmation",) and back.bounds is None
    np.testing.assert_array_equal(back.scores[0], items.extra["affirmation"][0])
    assert from_frame(frame, "net", shared=False) is None


def test_net_scores_have_their_own_bounds() -> None:
    items = same_items()
    net = ItemScores(VALUES, tuple(-s for s in items.scores), items.clusters, shared=True, bounds=(-1.0, 1.0))
    back = from_frame(to_frame(Observed(items, net)), "net", shared=True)
    assert back is not None and back.bounds == (-1.0, 1.0)
    np.testing.assert_array_equal(back.scores[4], net.scores[4])


class NeverSelfDirection:
    """A judge of prompts that do not cover the circle's first value."""

    name, unit = "logprob", "SD"

    def measure(self, model: Any, session: Any = None, rewrite: Any = None) -> ItemScores:
        return own_items()


def test_the_judge_is_asked_for_covered_values_only() -> None:
    """Prompts may lack self-direction: asking a judge of it for its name must not fail."""
    asked = []

    def judges(split: str, values: tuple[str, ...]) -> Any:
        assert "self-direction" not in values
        asked.append((split, values))
        return NeverSelfDirection()

    scorer = Scorer(None, judges, {}, Decoding(), ("power", "tradition"))
    assert not scorer.reads and scorer.about() == {"judge": "logprob", "unit": "SD"}
    assert asked == [("validation", ("power",))]
