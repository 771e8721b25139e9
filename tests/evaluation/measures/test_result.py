"""Measured leakage against hand algebra, planted truth and simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from helpers.planted_responses import QUICK, planted
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES, circular_distance, distance_matrix
from neva_tl.evaluation.measures.cluster_sums import worst_case
from neva_tl.evaluation.measures.estimate import Estimate
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.evaluation.measures.result import compare_nlr, measure


def test_planted_matrix_is_recovered_exactly_without_noise():
    d = np.random.default_rng(1).normal(0, 0.2, (10, 10))
    result = measure(planted(d), **QUICK)
    np.testing.assert_allclose(result.matrix.to_numpy(), d, atol=1e-12)
    np.testing.assert_allclose(result.lo.to_numpy(), d, atol=1e-9)
    assert list(result.matrix.index) == list(VALUES) == list(result.matrix.columns)


def test_nlr_and_friends_by_hand():
    values = ("power", "security", "benevolence")
    d = np.array([[0.5, 0.2, -0.1], [0.0, 0.4, 0.1]])
    result = measure(planted(d, steered=values[:2], values=values), **QUICK)
    # leakage: (0.2 + 0)/2 and (0 + 0.1)/2; gains 0.5 and 0.4; no noise, so the halves agree with the whole
    assert result.leakages["power"].est == pytest.approx(0.1)
    assert result.leakages["security"].est == pytest.approx(0.05)
    assert result.nlr.est == pytest.approx(0.15 / 0.9)
    assert result.nlr_plain.est == pytest.approx(0.15 / 0.9)
    assert result.leakage_signed.est == pytest.approx(((0.2 - 0.1) / 2 + 0.1 / 2) / 2)
    assert result.leakage_absolute.est == pytest.approx(((0.2 + 0.1) / 2 + 0.1 / 2) / 2)
    assert result.coupling.est == pytest.approx((0.15 + 0.05) / 0.9)
    # everything positive leaves the group, and every other value is outside: NGL = 1
    assert result.ngl.est == pytest.approx(1.0)
    assert result.reached(0.45) == "1/2"
    assert result.gain.est == pytest.approx(0.45)


def test_ngl_by_hand_with_hedonism_in_both_groups():
    i = VALUES.index("hedonism")
    d = np.zeros((1, 10))
    d[0, i] = 1.0
    for inside in ("self-direction", "stimulation", "achievement", "power"):
        d[0, VALUES.index(inside)] = 0.1
    assert measure(planted(d, steered=("hedonism",)), **QUICK).ngl.est == pytest.approx(0.0)
    d[0, VALUES.index("tradition")] = 0.4
    # half of the leakage leaves; five of nine others are outside
    assert measure(planted(d, steered=("hedonism",)), **QUICK).ngl.est == pytest.approx(0.5 / (5 / 9))


def test_even_leakage_has_ngl_one():
    d = np.full((10, 10), 0.07)
    assert measure(planted(d), **QUICK).ngl.est == pytest.approx(1.0)


def test_circle_test_equals_scipy_and_recovers_a_planted_circle():
    rng = np.random.default_rng(3)
    d = 0.3 - distance_matrix() / 600 + rng.normal(0, 0.01, (10, 10))
    result = measure(planted(d), **QUICK)
    cells = [(i, j) for i in range(10) for j in range(10) if i != j]
    expected = spearmanr(
        [d[i, j] for i, j in cells], [circular_distance(VALUES[i], VALUES[j]) for i, j in cells]
    ).statistic
    assert result.circle.rho.est == pytest.approx(expected)
    assert result.circle.p is not None and result.circle.p <= 0.02
    wedge = spearmanr([d[i, j] for i, j in cells], [distance_matrix(True)[i, j] for i, j in cells]).statistic
    assert result.circle_wedge.rho.est == pytest.approx(wedge)


def test_net_scores_feed_the_circle_test_only():
    d, net = np.full((10, 10), 0.1), 0.3 - distance_matrix() / 600
    result = measure(planted(d), net=planted(net), **QUICK)
    assert result.circle_net and result.circle.rho.est == pytest.approx(-1.0)
    assert result.leakage.est == pytest.approx(0.1)


def test_no_gain_means_no_nlr():
    result = measure(planted(np.zeros((10, 10)), noise=0.2, seed=5), **QUICK)
    assert result.nlr == Estimate(None, None, None, 60)
    assert result.coupling.est is None
    assert result.nlr.to_json() == {"est": None, "lo": None, "hi": None, "n": 60}


def test_ngl_is_null_within_noise():
    d = np.diag(np.full(10, 0.6))
    nulls = [measure(planted(d, noise=0.15, seed=s), **QUICK).ngl.est is None for s in range(10)]
    assert np.mean(nulls) >= 0.8


def test_crossfit_is_unbiased_under_pure_noise_and_plain_is_not():
    d = np.diag(np.full(10, 0.5))
    fitted, plain = [], []
    for s in range(30):
        result = measure(planted(d, noise=0.2, seed=s, topics=16), n_boot=2, n_permutations=1)
        fitted.append(result.leakage.est)
        plain.append(result.leakage_plain.est)
    error = np.std(fitted) / np.sqrt(len(fitted))
    assert abs(np.mean(fitted)) < 3 * error
    assert np.mean(plain) > 0.01
    assert np.mean(plain) > np.mean(fitted) + 10 * error


def test_truth_lies_between_crossfit_and_plain():
    rng = np.random.default_rng(0)
    d = np.diag(np.full(10, 0.4)) + np.where(rng.random((10, 10)) < 0.4, 0.08, -0.02) * (1 - np.eye(10))
    truth = (np.maximum(d, 0) * (1 - np.eye(10))).sum() / 9 / np.trace(d)
    low, high = [], []
    for s in range(12):
        result = measure(planted(d, noise=0.2, seed=s, topics=30, per_topic=1), n_boot=100, n_permutations=1)
        low.append(result.nlr.est)
        high.append(result.nlr_plain.est)
        assert result.nlr.lo < result.nlr.est < result.nlr.hi
    assert np.mean(low) < truth < np.mean(high)


def test_interval_covers_planted_d_and_gain():
    rng = np.random.default_rng(0)
    d = np.diag(np.full(10, 0.5)) + rng.normal(0, 0.05, (10, 10))
    inside, gain = [], []
    for s in range(24):
        result = measure(
            planted(d, noise=0.2, seed=100 + s, topics=24, shared=bool(s % 2)), n_boot=400, n_permutations=1
        )
        inside.append(((result.lo.to_numpy() <= d) & (d <= result.hi.to_numpy())).mean())
        gain.append(result.gain.lo <= np.diag(d).mean() <= result.gain.hi)
    assert 0.89 < np.mean(inside) < 0.98
    assert np.mean(gain) > 0.82


def test_interval_is_by_cluster_not_by_item():
    few = measure(planted(np.diag(np.full(10, 0.5)), noise=0.2, topics=10, per_topic=20), **QUICK)
    split = few.responses
    items = measure(replace(split, clusters=tuple(np.array([str(k) for k in range(200)]) for _ in VALUES)), **QUICK)
    width = (few.hi - few.lo).to_numpy().mean()
    assert width > 1.5 * (items.hi - items.lo).to_numpy().mean()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_order_of_items_does_not_matter(seed):
    responses = planted(np.random.default_rng(seed).normal(0, 0.2, (10, 10)), noise=0.1, seed=seed, topics=6)
    order = np.random.default_rng(seed + 1).permutation(responses.n)
    shuffled = replace(
        responses,
        base=tuple(b[order] for b in responses.base),
        edited=tuple(e[:, order] for e in responses.edited),
        clusters=tuple(c[order] for c in responses.clusters),
    )
    a, b = measure(responses, n_boot=50, n_permutations=9), measure(shuffled, n_boot=50, n_permutations=9)
    np.testing.assert_allclose(a.matrix, b.matrix, atol=1e-12)
    np.testing.assert_allclose(a.lo, b.lo, atol=1e-12)
    assert a.leakage.est == pytest.approx(b.leakage.est)


def test_crossfit_never_exceeds_plain_without_noise():
    d = np.random.default_rng(2).normal(0, 0.2, (10, 10))
    result = measure(planted(d), **QUICK)
    assert result.leakage.est == pytest.approx(result.leakage_plain.est)


def test_methods_share_draws_and_pair():
    d = np.diag(np.full(10, 0.5)) + 0.1 * (1 - np.eye(10))
    a = planted(d, noise=0.1, seed=1, method="a", topics=20)
    same = compare_nlr(a, replace(a, method="b"), n_boot=300)
    assert same.ratio.est == same.ratio.lo == same.ratio.hi == pytest.approx(1.0)
    twice = planted(d + 0.1 * (1 - np.eye(10)), noise=0.1, seed=1, method="c", topics=20)
    comparison = compare_nlr(twice, a, n_boot=300)
    assert comparison.ratio.est == pytest.approx(2.0, rel=0.25)
    assert comparison.ratio.lo is not None and comparison.ratio.lo > 1.0
    assert comparison.difference.lo is not None and comparison.difference.lo > 0
    part = compare_nlr(twice, a, values=("power", "security"), n_boot=100)
    assert part.values == ("power", "security")


def test_compare_refuses_what_cannot_be_compared():
    d = np.diag(np.full(10, 0.5))
    a, b = planted(d), planted(d)
    with pytest.raises(InputError, match="judges, units"):
        compare_nlr(a, replace(b, unit="sd"))
    with pytest.raises(InputError, match="different topics"):
        compare_nlr(a, planted(d, topics=7))
    with pytest.raises(InputError, match="no value is reached"):
        compare_nlr(a, b, values=())


def test_missing_scores_are_left_out_and_bounded():
    base = tuple(np.array([0.2, 0.4, 0.6, 0.8]) for _ in VALUES)
    edited = tuple(np.tile([0.5, 0.5, 0.5, np.nan], (1, 1)) for _ in VALUES)
    clusters = tuple(np.array(list("aabb")) for _ in VALUES)
    responses = Responses("m", ("power",), base, edited, clusters, shared=True)
    table = measure(responses, **QUICK).table()
    row = table[table.measured == "power"].iloc[0]
    assert row.d == pytest.approx((0.3 + 0.1 - 0.1) / 3)
    assert row.n == 3 and row.missing == pytest.approx(0.25)
    assert row.worst_lo == pytest.approx((0.3 + 0.1 - 0.1 - 0.8) / 4)
    assert row.worst_hi == pytest.approx((0.3 + 0.1 - 0.1 + 0.2) / 4)
    assert row.worst_lo <= row.d <= row.worst_hi
    assert worst_case(replace(responses, bounds=None)) is None


def test_one_topic_gives_no_interval():
    result = measure(planted(np.diag(np.full(10, 0.5)), topics=1), **QUICK)
    assert result.gain.est == pytest.approx(0.5) and result.gain.lo is None
    assert result.nlr.est is None


def test_tables_and_text():
    result = measure(planted(np.diag(np.full(10, 0.5)) + 0.05, noise=0.02), **QUICK)
    assert list(result.table().columns[:7]) == ["method", "steered", "measured", "d", "lo", "hi", "n"]
    assert len(result.table()) == 100
    assert result.per_value().gain.between(0.45, 0.65).all()
    assert len(result.summary()) == 1
    assert "NLR" in str(result) and "<table" in result._repr_html_()
    assert result.coupling_matrix().to_numpy()[0, 0] == pytest.approx(1.0)
    assert result.change_correlation().shape == (10, 10)
    own = result.csr["power"].est - result.csr_base["power"].est
    assert own == pytest.approx(result.gains["power"].est)
    assert result.csr_mean.est - result.csr_base_mean.est == pytest.approx(result.gain.est)
    assert result.csr_mean.lo < result.csr_mean.est < result.csr_mean.hi
