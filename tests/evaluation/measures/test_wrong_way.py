"""Share of items pushed the wrong way: hand-computed cases and its symmetries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from helpers.planted_responses import planted
from neva_tl.core.statistics import wilson
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.evaluation.measures.result import measure
from neva_tl.evaluation.measures.wrong_way import pushed_down, wrong_way

PAIR = ("power", "tradition")


def responses(edited: list[list[float]], base: list[float], clusters: str, **options: object) -> Responses:
    """Both values have the same items; row i of `edited` is the edit towards value i, which moves both."""
    scores = np.array(edited, dtype=float)
    both = {"base": (np.array(base),) * 2, "edited": (scores,) * 2, "clusters": (np.array(list(clusters)),) * 2}
    return Responses(method="edit", steered=PAIR, values=PAIR, **(both | options))  # type: ignore[arg-type]


def test_shares_by_hand() -> None:
    nan = float("nan")
    # towards power: down, equal, up, missing; towards tradition: up, up, down, equal
    given_scores = responses([[0.1, 0.4, 0.7, nan], [0.3, 0.5, 0.5, 0.8]], [0.2, 0.4, 0.6, 0.8], "abcd")
    result = measure(given_scores, n_boot=50, n_permutations=1)
    power, tradition = result.wrong_ways["power"], result.wrong_ways["tradition"]
    assert (power.est, power.n) == (pytest.approx((1 + 0.5 + 0) / 3), 3)
    assert (tradition.est, tradition.n) == (pytest.approx((0 + 0 + 1 + 0.5) / 4), 4)
    assert (result.wrong_way.est, result.wrong_way.n) == (pytest.approx((0.5 + 0.375) / 2), 7)
    table = result.table().set_index(["steered", "measured"])
    assert table.loc[("power", "power"), "wrong_way"] == pytest.approx(0.5)
    assert table.loc[("tradition", "tradition"), "wrong_way_hi"] == pytest.approx(tradition.hi)
    off_target = table.loc[[("power", "tradition"), ("tradition", "power")]]
    assert off_target[["wrong_way", "wrong_way_lo", "wrong_way_hi"]].isna().all(axis=None)
    assert result.per_value()["wrong_way"].tolist() == pytest.approx([0.5, 0.375])
    assert result.summary().loc[0, "wrong_way"] == pytest.approx(0.4375) and "wrong way" in result._repr_html_()


def test_items_that_do_not_count_are_left_out() -> None:
    excluded = np.array([[True, False, False, False], [False] * 4])
    scores = responses([[0, 1, 1, 1], [1, 1, 1, 0]], [0.5] * 4, "abcd", excluded=(excluded, excluded))
    shares, mean = wrong_way(scores, seed=0, n_boot=50)
    assert (shares["power"].est, shares["power"].n) == (0.0, 3)
    assert (shares["tradition"].est, shares["tradition"].n) == (0.25, 4) and mean.est == 0.125


def test_the_interval_is_by_topic() -> None:
    """Two topics, one all down and one all up: their resamples are 0, .5 and 1, however many items they hold."""
    edited = [0.0] * 10 + [1.0] * 10
    shares, _ = wrong_way(responses([edited, edited], [0.5] * 20, "a" * 10 + "b" * 10), seed=0, n_boot=400)
    assert (shares["power"].est, shares["power"].lo, shares["power"].hi) == (0.5, 0.0, 1.0)
    items, _ = wrong_way(responses([edited, edited], [0.5] * 20, "abcdefghijklmnopqrst"), seed=0, n_boot=400)
    assert 0.2 < items["power"].lo < 0.5 < items["power"].hi < 0.8


def test_items_that_all_move_one_way_have_an_interval_by_topic() -> None:
    """Resamples of equal items are all equal: the interval is Wilson's, with four topics as trials, not of width zero."""
    up, down = [0.9] * 8, [0.1] * 8
    shares, mean = wrong_way(responses([up, down], [0.5] * 8, "aabbccdd"), seed=0, n_boot=50)
    assert shares["power"].est == shares["power"].lo == 0.0
    assert shares["power"].hi == pytest.approx(wilson(0, 4)[1])
    assert shares["tradition"].est == shares["tradition"].hi == 1.0
    assert shares["tradition"].lo == pytest.approx(wilson(4, 4)[0]) and mean.est == 0.5
    alone, _ = wrong_way(responses([up, down], [0.5] * 8, "aaaaaaaa"), seed=0, n_boot=50)
    assert alone["power"].est == 0.0 and alone["power"].lo is None and alone["power"].hi is None


def test_draws_are_those_of_the_gain() -> None:
    """Two methods on the same items have paired shares, so that a method against itself has one interval."""
    scores = planted(np.diag(np.full(10, 0.1)), noise=0.2, seed=3, topics=20)
    first, again = wrong_way(scores, seed=4, n_boot=100), wrong_way(replace(scores, method="b"), seed=4, n_boot=100)
    assert first == again
    assert wrong_way(scores, seed=5, n_boot=100)[1] != first[1]


# sixteenths are exact in binary, so that equal scores stay equal when a constant is added
SCORES = arrays(float, 12, elements=st.integers(-16, 16).map(lambda k: k / 16))


@settings(max_examples=40, deadline=None)
@given(base=SCORES, edited=SCORES)
def test_symmetries_of_the_share(base: np.ndarray, edited: np.ndarray) -> None:
    share = pushed_down(base, edited[None, :]).mean()
    assert 0 <= share <= 1
    assert pushed_down(edited, base[None, :]).mean() == pytest.approx(1 - share)  # the other way round
    assert pushed_down(3 * base + 1, 3 * edited[None, :] + 1).mean() == share  # another unit
    assert pushed_down(base, base[None, :]).mean() == 0.5  # nothing happened
    assert pushed_down(base, base[None, :] + 1).mean() == 0 and pushed_down(base, base[None, :] - 1).mean() == 1
    raised = np.maximum(edited, base)
    assert pushed_down(base, raised[None, :]).mean() <= share  # raising items never raises the share


@settings(max_examples=15, deadline=None)
@given(base=SCORES, edited=SCORES, seed=st.integers(0, 1000))
def test_every_interval_holds_its_share(base: np.ndarray, edited: np.ndarray, seed: int) -> None:
    scores = responses([edited.tolist(), base.tolist()], base.tolist(), "aabbccddeeff")
    shares, mean = wrong_way(scores, seed=seed, n_boot=30)
    for one in (*shares.values(), mean):
        assert one.est is not None and one.lo is not None and one.hi is not None
        assert 0 <= one.lo <= one.est <= one.hi <= 1
    assert shares["tradition"].est == 0.5
