"""Effect sizes, tests and intervals against SciPy, statsmodels and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as sps
from scipy.special import gamma
from statsmodels.stats.meta_analysis import effectsize_smd

from neva_tl.core import statistics as nst

pytestmark = pytest.mark.core


def samples(n_b: int = 17) -> tuple[np.ndarray, np.ndarray]:
    n_a, shape = 23, (3, 5)
    rng = np.random.default_rng(0)
    shift = rng.normal(size=shape)
    return rng.normal(shift, 1.0, (n_a, *shape)), rng.normal(0.0, 1.7, (n_b, *shape))


class TestEffects:
    def test_correction_is_the_gamma_ratio(self) -> None:
        df = np.array([2.0, 3.0, 8.0, 40.0])
        by_hand = gamma(df / 2) / (np.sqrt(df / 2) * gamma((df - 1) / 2))
        np.testing.assert_allclose(nst.hedges_correction(df), by_hand, rtol=1e-12)
        np.testing.assert_allclose(nst.hedges_correction(df[2:]), 1 - 3 / (4 * df[2:] - 1), atol=1e-3)
        assert nst.hedges_correction(46000.0) == pytest.approx(1, abs=1e-4)

    def test_hedges_g_equals_statsmodels(self) -> None:
        a, b = samples()
        got = nst.hedges_g(nst.moments(a), nst.moments(b))
        n_a, n_b = len(a), len(b)
        theirs, variance = effectsize_smd(a.mean(0), a.std(0, ddof=1), n_a, b.mean(0), b.std(0, ddof=1), n_b)
        np.testing.assert_allclose(got.g, theirs, rtol=2e-4)  # statsmodels uses the approximate J
        lo, hi = nst.interval(got, method="large-sample")
        np.testing.assert_allclose(hi - lo, 2 * 1.959964 * np.sqrt(variance), rtol=2e-4)
        np.testing.assert_allclose(got.t, sps.ttest_ind(a, b).statistic, rtol=1e-10)

    def test_paired_equals_scipy(self) -> None:
        a, b = samples(n_b=23)
        got = nst.paired_g(nst.moments(a - b))
        theirs = sps.ttest_rel(a, b)
        t, df, p = nst.paired_t(nst.moments(a - b))
        np.testing.assert_allclose(t, theirs.statistic, rtol=1e-10)
        np.testing.assert_allclose(p, theirs.pvalue, rtol=1e-8)
        assert df == 22
        d_z = (a - b).mean(0) / (a - b).std(0, ddof=1)
        np.testing.assert_allclose(got.g, d_z * nst.hedges_correction(22.0), rtol=1e-10)

    def test_welch_equals_scipy(self) -> None:
        a, b = samples()
        theirs = sps.ttest_ind(a, b, equal_var=False)
        t, df, p = nst.welch(nst.moments(a), nst.moments(b))
        np.testing.assert_allclose(t, theirs.statistic, rtol=1e-10)
        np.testing.assert_allclose(df, theirs.df, rtol=1e-10)
        np.testing.assert_allclose(p, theirs.pvalue, rtol=1e-8)
        effect = nst.welch_effect(nst.moments(a), nst.moments(b))
        np.testing.assert_allclose(effect.root_n * (a.mean(0) - b.mean(0)) / effect.sd, t, rtol=1e-10)

    @pytest.mark.parametrize("paired", [True, False])
    def test_interval_limits_put_t_on_its_tail_quantiles(self, paired: bool) -> None:
        a, b = samples(n_b=23)
        effect = nst.paired_g(nst.moments(a - b)) if paired else nst.hedges_g(nst.moments(a), nst.moments(b))
        lo, hi = nst.interval(effect, level=0.9)
        np.testing.assert_allclose(sps.nct.sf(effect.t, effect.df, lo * effect.root_n), 0.05, atol=1e-6)
        np.testing.assert_allclose(sps.nct.cdf(effect.t, effect.df, hi * effect.root_n), 0.05, atol=1e-6)

    def test_interval_of_many_neurons_equals_one_by_one(self) -> None:
        rng = np.random.default_rng(1)
        mean, m2 = rng.normal(0, 1, 9000) * rng.choice((0.1, 1, 20), 9000), rng.chisquare(19, 9000)
        many = nst.paired_g((20, mean, m2))
        few = nst.paired_g((20, mean[::30], m2[::30]))
        for fast, exact in zip(nst.interval(many), nst.interval(few), strict=True):
            np.testing.assert_allclose(fast[::30], exact, rtol=1e-4, atol=1e-4)

    def test_limits_are_roots_where_scipys_are_rough(self) -> None:
        t = np.array([-3.0, -1e-3, 0.0, 1e-3, 0.5, 8.0])
        lo, hi = nst.interval(nst.paired_g((160, t / np.sqrt(160), np.full(len(t), 159.0))))
        np.testing.assert_allclose(sps.nct.cdf(t, 159, lo * np.sqrt(160)), 0.975, atol=1e-9)
        np.testing.assert_allclose(sps.nct.cdf(t, 159, hi * np.sqrt(160)), 0.025, atol=1e-9)

    def test_interval_covers(self) -> None:
        rng = np.random.default_rng(2)
        x = rng.normal(0.5, 1.0, (12, 4000))
        lo, hi = nst.interval(nst.paired_g(nst.moments(x)))
        assert np.mean((lo <= 0.5) & (hi >= 0.5)) == pytest.approx(0.95, abs=0.012)

    def test_minimum_effect_is_a_noncentral_f(self) -> None:
        a, b = samples()
        effect = nst.hedges_g(nst.moments(a), nst.moments(b))
        np.testing.assert_allclose(
            nst.minimum_effect_p(effect, 0.3),
            sps.ncf.sf(effect.t**2, 1, effect.df, (0.3 * effect.root_n) ** 2),
            rtol=1e-7,
        )
        np.testing.assert_allclose(nst.minimum_effect_p(effect, 0.0), sps.ttest_ind(a, b).pvalue, rtol=1e-9)
        assert (nst.minimum_effect_p(effect, 0.3) >= nst.minimum_effect_p(effect, 0.1)).all()

    @pytest.mark.parametrize("n", [3, 20, 160, 3000])
    @pytest.mark.parametrize("delta", [0.0, 0.2])
    def test_minimum_effect_of_many_neurons_equals_a_noncentral_f(self, n: int, delta: float) -> None:
        rng = np.random.default_rng(n)
        t = rng.normal(size=9000) * rng.choice((0.01, 1, 5, 40), 9000)
        t[:3] = 0.0, 5000.0, -5000.0
        p = nst.minimum_effect_p(nst.paired_g((n, t / np.sqrt(n), np.full(9000, n - 1.0))), delta)
        theirs = sps.ncf.sf(t**2, 1, n - 1, delta**2 * n) if delta else 2 * sps.t.sf(np.abs(t), n - 1)
        # beyond 1e-12 SciPy's F has no digits left: there only the size is compared
        near = theirs > 1e-12
        np.testing.assert_allclose(p[near], theirs[near], rtol=2e-7 if delta == 0 else 1e-4)
        assert (p[~near] < 1e-11).all() and np.isfinite(p).all()
        order = np.argsort(np.abs(t))
        seen = p[order][p[order] > 1e-200]
        assert (np.diff(seen) <= 1e-7 * seen[:-1]).all()

    @pytest.mark.parametrize("n", [(160, 160), (40, 41), (3, 4), (500, 6), (7, 2000), (2, 2)])
    @pytest.mark.parametrize("delta", [0.0, 0.2])
    def test_many_welch_tests_equal_each_alone(self, n: tuple[int, int], delta: float) -> None:
        rng = np.random.default_rng(n[0])
        many = 40_000
        spread = [rng.chisquare(k - 1, many) * np.exp(rng.normal(size=many)) for k in n]
        error = np.sqrt(sum(m2 / (k - 1) / k for m2, k in zip(spread, n, strict=True)))
        mean = error * rng.normal(size=many) * rng.choice((0.01, 1, 5, 40), many)
        # no spread in one sample, in both, and no difference
        spread[0][:10] = 0.0
        spread[1][5:15] = 0.0
        mean[15:20] = 0.0
        zeros = np.zeros(many)
        effect = nst.welch_effect((n[0], mean, spread[0]), (n[1], zeros, spread[1]))
        p = nst.minimum_effect_p(effect, delta)
        some = [slice(start, start + 10_000) for start in range(0, many, 10_000)]
        alone = np.concatenate(
            [
                nst.minimum_effect_p(
                    nst.welch_effect((n[0], mean[at], spread[0][at]), (n[1], zeros[at], spread[1][at])), delta
                )
                for at in some
            ]
        )
        np.testing.assert_allclose(p, alone, rtol=2e-7, atol=1e-245)
        if delta == 0:
            # SciPy from the moments, none of ours behind it
            theirs = sps.ttest_ind_from_stats(
                mean, np.sqrt(spread[0] / (n[0] - 1)), n[0], 0.0, np.sqrt(spread[1] / (n[1] - 1)), n[1], equal_var=False
            ).pvalue
            np.testing.assert_allclose(p[20:], theirs[20:], rtol=2e-7, atol=1e-245)

    @pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
    @pytest.mark.parametrize("delta", [0.0, 0.2])
    def test_no_small_p_lies_below_the_least_t(self, alpha: float, delta: float) -> None:
        rng = np.random.default_rng(4)
        spread = rng.chisquare(9, (2, 3000)) * np.exp(2 * rng.normal(size=(2, 3000)))
        mean = rng.normal(size=3000) * np.sqrt(spread.sum(axis=0)) / 8
        for effect in (
            nst.welch_effect((9, mean, spread[0]), (30, np.zeros(3000), spread[1])),
            nst.paired_g((9, mean, spread[0])),
        ):
            p, bound = nst.minimum_effect_p(effect, delta), nst.least_t(effect, alpha, delta)
            below = np.abs(effect.t) < bound
            assert below.any() and (p[below] > alpha).all()
        # paired: tight
        assert p[np.abs(effect.t) < bound].min() < 1.2 * alpha + 0.01

    def test_minimum_effect_keeps_its_level_at_the_boundary(self) -> None:
        x = np.random.default_rng(3).normal(0.2, 1.0, (60, 6000))
        p = nst.minimum_effect_p(nst.paired_g(nst.moments(x)), 0.2)
        assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.01)

    def test_intervals_of_extreme_effects_are_finite(self) -> None:
        for n in (2, 3, 10, 100, 3000):
            t = np.concatenate([np.geomspace(1e-3, 300, 40), -np.geomspace(1e-3, 300, 40)])
            lo, hi = nst.interval(nst.paired_g((n, t / np.sqrt(n), np.full(80, n - 1.0))))
            assert np.isfinite(lo).all() and np.isfinite(hi).all() and (lo < hi).all()

    def test_no_spread_is_never_nan(self) -> None:
        plus = (4, np.array([1.0, 1.0, 0.5]), np.array([0.0, 0.0, 2.0]))
        minus = (4, np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 2.0]))
        effect = nst.welch_effect(plus, minus)
        assert effect.g[0] == 0 and np.isposinf(effect.g[1]) and np.isfinite(effect.g[2])
        p = nst.minimum_effect_p(effect)
        assert p[0] == pytest.approx(1.0) and p[1] == 0 and np.isfinite(p).all()
        assert np.isfinite(nst.interval(nst.hedges_g(plus, minus))[0][[0, 2]]).all()
