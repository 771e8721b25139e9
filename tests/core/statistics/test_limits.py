"""Limits contain their estimates: exact limits, percentiles, shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from statsmodels.stats.proportion import proportion_confint

from neva_tl.core.statistics import (
    cluster_bootstrap,
    containing,
    hedges_g,
    interval,
    mean_interval,
    paired_g,
    shifted,
    welch_effect,
    wilson,
)

NUMBERS = arrays(np.float64, 6, elements=st.floats(-1e9, 1e9))
LEVELS = st.sampled_from([0.01, 0.1, 0.5, 0.9, 0.95, 0.999])


def test_a_shift_moves_the_median_draw_to_the_estimate() -> None:
    # percentiles exclude 5; those of the second estimate contain it
    lo, hi = shifted([5.0, 2.0], [0.0, 0.0], [2.0, 1.0], [3.0, 3.0])
    assert lo.tolist() == [3.0, 0.0]
    assert hi.tolist() == [6.0, 3.0]
    lo, hi = shifted(2.0, 0.0, 1.0, 3.0, always=True)
    assert (float(lo), float(hi)) == (1.0, 4.0)
    lo, hi = shifted([1.0, 1.0], [2.0, 0.0], [np.inf, 1.0], [np.inf, np.inf])
    assert np.isnan([lo[0], hi[0]]).all()
    assert (lo[1], hi[1]) == (0.0, np.inf)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.booleans())
def test_no_limits_exclude_their_estimate(
    est: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray, always: bool
) -> None:
    for lo, hi in (containing(est, a, b), shifted(est, a, b, c, always=always)):
        assert (lo <= est).all()
        assert (est <= hi).all()


@given(st.integers(1, 2000), st.floats(0, 1), LEVELS)
def test_wilsons_interval_is_that_of_statsmodels_up_to_the_share(n: int, share: float, level: float) -> None:
    count = round(share * n)
    lo, hi = wilson(count, n, level)
    assert (lo, hi) == pytest.approx(proportion_confint(count, n, alpha=1 - level, method="wilson"))
    assert lo <= count / n <= hi


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.sampled_from([2, 20]), st.sampled_from(["percentile", "bca"]))
def test_a_cluster_bootstrap_contains_its_estimate(seed: int, n: int, draws: int, method: str) -> None:
    values = np.random.default_rng(seed).standard_t(2, (n, 3))
    for statistic in (
        lambda x: x.mean(axis=0),
        lambda x: np.abs(x.mean(axis=0)),
        lambda x: x.max(axis=0),
        lambda x: len(np.unique(x)),
        lambda x: x[:, 0].mean() / (1e-3 + np.abs(x[:, 1].mean())),
    ):
        rng = np.random.default_rng(seed)
        result = cluster_bootstrap(values, None, statistic, n=draws, rng=rng, method=method)  # type: ignore[arg-type]
        assert (np.asarray(result.lo) <= result.est).all()
        assert (np.asarray(result.est) <= result.hi).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.floats(-20, 20), LEVELS)
def test_an_effect_lies_in_its_interval(seed: int, n: int, shift: float, level: float) -> None:
    """Also with two pairs (one degree of freedom, where g is 0), few texts, and low levels."""
    rng = np.random.default_rng(seed)

    def moments(x: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        return len(x), x.mean(axis=0), ((x - x.mean(axis=0)) ** 2).sum(axis=0)

    plus, minus = moments(rng.normal(shift, 1, (n, 4))), moments(rng.normal(0, 3, (n, 4)))
    for effect in (paired_g(plus), hedges_g(plus, minus), welch_effect(plus, minus)):
        for method in ("noncentral-t", "large-sample"):
            lo, hi = interval(effect, level, method)  # type: ignore[arg-type]
            assert (lo <= effect.g).all()
            assert (effect.g <= hi).all()
    mean, lo, hi = mean_interval(rng.standard_t(1, (n, 5)), level)
    assert (lo <= mean).all()
    assert (mean <= hi).all()


def test_two_pairs_have_an_interval_from_their_g_of_zero() -> None:
    effect = paired_g((2, np.array([50.0]), np.array([1.0])))
    assert effect.g == 0
    lo, hi = interval(effect)
    assert lo == 0
    assert hi > 0
