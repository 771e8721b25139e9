"""Social value orientation: planted choosers have the angles that the literature gives for them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import fake_answers as fake
from neva_tl.core.errors import InputError
from neva_tl.editing import AddVector
from neva_tl.evaluation.profiles.svo import (
    IDEALS,
    Game,
    angle_of,
    bootstrap_angles,
    category_of,
    question,
    ring_games,
    svo,
    turn,
    unrotate,
)
from neva_tl.models import inference

CHOOSERS = {
    "altruist": lambda own, other: other,
    "individualist": lambda own, other: own,
    "competitor": lambda own, other: own - other,
    "joint": lambda own, other: own + other,
    "equal": lambda own, other: -abs(own - other),
}


def points(option):
    words = option.replace(",", "").split()
    return float(words[2]), float(words[-1])


@pytest.fixture
def ask(monkeypatch, tiny):
    """The orientation of a planted chooser, who likes an allocation so much, and each further letter by so much more."""

    def run(likes, letter_bias=0.0, **options):
        monkeypatch.setattr(inference, "answer_logprobs", fake.answers(liking(likes, letter_bias)))
        return svo(tiny, n_boot=50, **options)

    return run


def liking(likes, letter_bias):
    def of(prompt, letter, option):
        return likes(*points(option)) + letter_bias * (ord(letter) - ord("A"))

    return of


def test_the_ideal_points_lie_on_the_circle():
    games = ring_games((50.0,), stops=2)
    ends = {ends for game in games for ends in game.allocations}
    assert ends == {(50, 100), (85, 85), (100, 50), (85, 15)} and len(games) == 6
    for radius in (20.0, 30.0, 40.0):
        ends = {ends for game in ring_games((radius,), stops=2) for ends in game.allocations}
        side = 0.7 * radius  # the same shape at every stake
        expected = [(50, 50 + radius), (50 + side, 50 - side), (50 + side, 50 + side), (50 + radius, 50)]
        np.testing.assert_allclose(sorted(ends), expected)


@pytest.mark.parametrize(
    ("name", "angle", "category"),
    [
        # Murphy et al. 2011: perfect altruists 61.39, competitors -16.26; individualists between -7.82 and 7.82, whose
        # middle is the mean of the choices that are equal to them
        ("altruist", 61.39, "altruistic"),
        ("individualist", 0.0, "individualistic"),
        ("competitor", -16.26, "competitive"),
    ],
)
def test_planted_choosers_have_the_published_angles(ask, name, angle, category):
    found = ask(CHOOSERS[name])
    assert found.angle.est == pytest.approx(angle, abs=0.01)
    assert found.category == category
    assert found.angle.lo == pytest.approx(found.angle.est) == pytest.approx(found.angle.hi)  # the same at every stake


def test_the_individualists_angles_with_ties_broken_either_way_are_the_published_ones(ask):
    kind = ask(lambda own, other: own + 1e-4 * other)
    mean = ask(lambda own, other: own - 1e-4 * other)
    assert kind.angle.est == pytest.approx(7.82, abs=0.01) and mean.angle.est == pytest.approx(-7.82, abs=0.01)


def test_the_equal_minded_by_hand(ask):
    """At radius 50 with a stop every 6.25 % of a chord the nearest to equality are 85/85 twice and once more, 100/50,
    75/75, and on the chord from 50/100 to 85/15 the stop 65/63 (t = 7/16: 65.3/62.8)."""
    found = ask(CHOOSERS["equal"], games=ring_games((50.0,), stops=17))
    own, other = (85 * 3 + 100 + 75 + 65) / 6 - 50, (85 * 3 + 50 + 75 + 63) / 6 - 50
    assert found.angle.est == pytest.approx(math.degrees(math.atan2(other, own)), abs=1e-9)
    assert found.category == "prosocial"
    assert ask(CHOOSERS["joint"]).category == "prosocial"


@given(st.integers(2, 6), st.integers(0, 5), st.integers(0, 10**6))
def test_rotations_give_each_option_its_own_liking_whatever_the_letters(k, games, seed):
    rng = np.random.default_rng(seed)
    liking, bias = rng.normal(size=(games + 1, k)), rng.normal(size=k)
    by_letter = np.empty((games + 1, k, k))
    for rotation in range(k):
        for letter in range(k):
            by_letter[:, rotation, letter] = liking[:, (letter + rotation) % k] + bias[letter]
    np.testing.assert_allclose(unrotate(by_letter), liking + bias.mean(), atol=1e-12)


def test_a_liking_for_a_letter_changes_nothing(ask):
    plain = ask(CHOOSERS["competitor"])
    biased = ask(CHOOSERS["competitor"], letter_bias=40.0)
    np.testing.assert_allclose(biased.choices, plain.choices)
    assert np.ptp(biased.letters) == pytest.approx(160.0) and np.ptp(plain.letters) == pytest.approx(0.0)


def test_one_who_does_not_care_is_seen_not_to(ask):
    found = ask(lambda own, other: 0.0)
    # every ideal point ends three of six chords: the mean of a chooser at random is that of the four points
    by_hand = math.degrees(math.atan2((50 + 35 + 0 - 35) / 4, (0 + 35 + 50 + 35) / 4))
    assert found.chance == pytest.approx(by_hand, abs=0.3)
    assert found.decided == pytest.approx(0) and found.soft_angle == pytest.approx(found.chance)


def test_the_interval_covers_choices_that_differ_between_games():
    games = ring_games((20.0, 50.0))
    choices = np.array([(50 + g.radius, 50.0) if g.radius == 20 else (50.0, 50 + g.radius) for g in games])
    draws = bootstrap_angles(games, choices, n_boot=400, seed=0)
    assert draws.min() < 20 and draws.max() > 80
    again = bootstrap_angles(games, choices, n_boot=400, seed=0)
    np.testing.assert_array_equal(draws, again)
    assert np.isnan(bootstrap_angles(ring_games((50.0,)), choices[:6], n_boot=5, seed=0)).all()


def test_angles_and_categories():
    assert angle_of(np.array([[50.0, 100.0], [100.0, 50.0]])) == pytest.approx(45)
    assert math.isnan(angle_of(np.array([[50.0, 50.0]])))
    assert [category_of(a) for a in (57.2, 57.1, 22.4, -12.1, None)] == [
        "altruistic", "prosocial", "individualistic", "competitive", "undefined",
    ]  # fmt: skip
    assert float(turn(170.0, -170.0)) == 20 and float(turn(10.0, -5.0)) == -15


def test_a_change_between_two_choosers(ask):
    before, after = ask(CHOOSERS["individualist"]), ask(CHOOSERS["altruist"])
    found = before.to(after)
    assert found.change.est == pytest.approx(61.39, abs=0.01) and found.df["label"].tolist() == [
        "before",
        "after",
        "change",
    ]
    assert "altruistic" in found._repr_html_() and before.df.shape == (24, 5)
    assert found.show().axes and before.show().axes and "<table" in before._repr_html_()
    with pytest.raises(InputError, match="same games"):
        before.to(ask(CHOOSERS["altruist"], games=ring_games((50.0,))))


def test_questions_show_every_option_under_every_letter():
    game = Game("x", 50.0, ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0)))
    shown = [list(fake.options_of(question(game, r)).values()) for r in range(3)]
    assert [list(column) for column in zip(*shown, strict=True)] == shown  # a latin square that is symmetric
    assert all(len(set(column)) == 3 for column in zip(*shown, strict=True))
    assert shown[1][0] == "you get 3, the other person gets 4"


@pytest.mark.parametrize("bad", [{"radii": (60.0,)}, {"radii": ()}, {"stops": 1}])
def test_impossible_games_are_refused(bad):
    with pytest.raises(InputError):
        ring_games(**bad)


def test_a_real_model_answers_and_an_edit_turns_it(tiny):
    games = ring_games((30.0, 50.0), stops=3)
    before = svo(tiny, games=games, n_boot=50)
    after = svo(tiny, AddVector({2: np.full(32, 3.0)}), games=games, n_boot=50)
    assert len(IDEALS) == 4 and before.utility.shape == (12, 3)
    assert np.abs(before.utility - after.utility).max() > 0.01
    assert before.to(after).change.est is not None
