"""Statistics against SciPy, statsmodels and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as sps
from scipy.special import gamma
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower

from neva_tl.core import statistics as nst
from neva_tl.core.errors import InputError

pytestmark = pytest.mark.core


def samples(n_b: int = 17) -> tuple[np.ndarray, np.ndarray]:
    n_a, shape = 23, (3, 5)
    rng = np.random.default_rng(0)
    shift = rng.normal(size=shape)
    return rng.normal(shift, 1.0, (n_a, *shape)), rng.normal(0.0, 1.7, (n_b, *shape))


class TestMoments:
    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 10**6), st.floats(-1e4, 1e4))
    def test_merge_equals_pooled(self, sizes: list[int], seed: int, offset: float) -> None:
        rng = np.random.default_rng(seed)
        parts = [rng.normal(offset, 1, (n, 4)) for n in sizes]
        whole = np.concatenate(parts)
        given_parts = [nst.moments(p) if len(p) else (0, np.full(4, np.nan), np.full(4, np.nan)) for p in parts]
        if not len(whole):
            with pytest.raises(InputError, match="empty"):
                nst.merge_moments(given_parts)
            return
        merged = nst.merge_moments(given_parts)
        assert merged.n == len(whole)
        np.testing.assert_allclose(merged.mean, whole.mean(axis=0), rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(merged.m2, len(whole) * whole.var(axis=0), rtol=1e-6, atol=1e-6)

    def test_bad_moments_name_the_neuron(self) -> None:
        mean = np.zeros((4, 7))
        mean[2, 6] = np.nan
        with pytest.raises(InputError, match=r"power \(\+\) is not finite at layer 2, neuron 6"):
            nst.check_moments((5, mean, np.ones((4, 7))), "power (+)")
        with pytest.raises(InputError, match="layer 2, neuron 6"):
            nst.hedges_g((5, np.zeros((4, 7)), np.ones((4, 7))), (5, mean, np.ones((4, 7))))

    def test_one_observation_is_refused(self) -> None:
        one = (1, np.zeros(3), np.zeros(3))
        for call in (lambda: nst.paired_g(one), lambda: nst.hedges_g(one, one), lambda: nst.welch(one, one)):
            with pytest.raises(InputError, match="1 observation"):
                call()


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

    @settings(max_examples=50, deadline=None)
    @given(st.floats(0, 80), st.floats(2, 5000), st.floats(0, 30))
    def test_tails_are_never_nan(self, c: float, df: float, ncp: float) -> None:
        from neva_tl.core.statistics.tails import two_tails

        p = float(two_tails(c, df, ncp))
        assert 0 <= p <= 1
        by_f = sps.ncf.sf(c**2, 1, df, ncp**2)
        if np.isfinite(by_f) and ncp > 0.1:
            assert p == pytest.approx(by_f, abs=1e-7, rel=1e-3)

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


class TestMultiplicity:
    def test_benjamini_hochberg_equals_statsmodels(self) -> None:
        p = np.random.default_rng(0).beta(0.5, 2, (4, 50))
        theirs = multipletests(p.ravel(), method="fdr_bh")[1].reshape(p.shape)
        np.testing.assert_allclose(nst.benjamini_hochberg(p), theirs, rtol=1e-10)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 10_000), st.sampled_from([0.01, 0.05, 0.3, 1.0]), st.integers(1, 300))
    def test_step_up_of_the_small_ones_is_that_of_all(self, seed: int, alpha: float, size: int) -> None:
        rng = np.random.default_rng(seed)
        # a share of small ones, and ties
        p = np.round(rng.random(size) ** rng.choice((1, 6)), 3)
        rejected, q = multipletests(p, alpha, method="fdr_bh")[:2]
        found = nst.step_up_p(p[p <= alpha], alpha, size)
        np.testing.assert_allclose(found.q, np.sort(q[q <= alpha]), rtol=1e-12)
        np.testing.assert_array_equal(found.p, np.sort(p[q <= alpha]))
        np.testing.assert_array_equal(p <= found.largest, rejected)

    def test_step_up_refuses(self) -> None:
        with pytest.raises(InputError, match="3 p-values of a family of 2"):
            nst.step_up_p(np.array([0.1, 0.2, 0.3]), 0.05, 2)
        with pytest.raises(InputError, match="missing or outside"):
            nst.step_up_p(np.array([np.nan]), 0.05, 2)

    def test_missing_p_value_is_refused(self) -> None:
        with pytest.raises(InputError, match="missing"):
            nst.benjamini_hochberg(np.array([0.1, np.nan]))

    @pytest.mark.parametrize("shift", [0.0, 0.3])
    def test_max_t_equals_brute_force(self, shift: float) -> None:
        rng = np.random.default_rng(4)
        x = rng.normal([1.2, 0.5, 0.0, -0.9], 0.6, (6, 4))
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=6)))
        got = nst.sign_flip_max_t(x, shift, rng=rng, signs=signs)
        # by hand: each hypothesis' own t-like statistic, then step down over the set of those not stronger
        moved = x - np.sign(x.mean(0)) * shift
        observed = np.sign(x.mean(0)) * moved.sum(0) / np.linalg.norm(moved, axis=0)
        expected = np.zeros(4)
        for k in range(4):
            weaker = [j for j in range(4) if observed[j] <= observed[k]]
            top = [max(abs(s @ moved[:, j]) / np.linalg.norm(moved[:, j]) for j in weaker) for s in signs]
            expected[k] = np.mean([t >= observed[k] - 1e-9 for t in top])
        for k in np.argsort(-observed):
            expected[k] = max(expected[j] for j in range(4) if observed[j] >= observed[k])
        np.testing.assert_allclose(got, expected)

    def test_single_column_is_the_sign_flip_test(self) -> None:
        x = np.random.default_rng(5).normal(0.5, 1, (9, 1))
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=9)))
        got = nst.sign_flip_max_t(x, rng=np.random.default_rng(0), signs=signs)[0]
        theirs = sps.permutation_test((x[:, 0],), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
        assert got == pytest.approx(theirs)

    def test_chunks_do_not_change_the_draws(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from neva_tl.core.statistics import multiplicity

        x = np.random.default_rng(6).normal(0.3, 1, (12, 40))
        whole = nst.sign_flip_max_t(x, flips=300, rng=np.random.default_rng(7))
        monkeypatch.setattr(multiplicity, "_BUDGET", 40 * 4 * 7)
        np.testing.assert_array_equal(whole, nst.sign_flip_max_t(x, flips=300, rng=np.random.default_rng(7)))

    def test_familywise_error_under_the_null(self) -> None:
        rng = np.random.default_rng(8)
        runs, false = 200, 0
        for _ in range(runs):
            shared = rng.normal(size=(20, 1))
            x = 0.6 * shared + rng.normal(size=(20, 30))
            false += nst.sign_flip_max_t(x, flips=199, rng=rng).min() <= 0.05
        assert false / runs <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)

    def test_familywise_error_at_the_boundary_of_the_minimum_effect(self) -> None:
        rng = np.random.default_rng(9)
        runs, false = 200, 0
        for _ in range(runs):
            x = rng.normal(0.4, 1.0, size=(25, 20)) * rng.choice((-1.0, 1.0), 20)
            false += nst.sign_flip_max_t(x, 0.4, flips=199, rng=rng).min() <= 0.05
        assert false / runs <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)

    def test_planted_effects_are_found(self) -> None:
        rng = np.random.default_rng(10)
        x = rng.normal(size=(30, 500))
        x[:, :5] += 2.0
        p = nst.sign_flip_max_t(x, 0.2, rng=rng)
        assert (p[:5] <= 0.01).all() and (p[5:] > 0.05).all()

    def test_cluster_means(self) -> None:
        x = np.arange(12.0).reshape(6, 2)
        means, names = nst.cluster_means(x, np.array(list("babbac")))
        assert list(names) == ["a", "b", "c"]
        np.testing.assert_allclose(means, [x[[1, 4]].mean(0), x[[0, 2, 3]].mean(0), x[5]])

    def test_refusals(self) -> None:
        rng = np.random.default_rng(0)
        with pytest.raises(InputError, match="at least two clusters"):
            nst.sign_flip_max_t(np.zeros((1, 3)), rng=rng)
        with pytest.raises(InputError, match="column 1"):
            nst.sign_flip_max_t(np.array([[0, np.nan], [1, 2]]), rng=rng)
        with pytest.raises(InputError, match="too few"):
            nst.sign_flip_max_t(np.zeros((5, 3)), flips=10, rng=rng)


class TestResampling:
    @pytest.mark.parametrize("method", ["percentile", "bca"])
    def test_bootstrap_agrees_with_scipy(self, method: str) -> None:
        x = np.random.default_rng(0).exponential(size=40)
        ours = nst.cluster_bootstrap(x, None, np.mean, n=12000, rng=np.random.default_rng(1), method=method)
        theirs = sps.bootstrap((x,), np.mean, n_resamples=12000, method=method, random_state=np.random.default_rng(2))
        assert (ours.lo, ours.hi) == pytest.approx(tuple(theirs.confidence_interval), abs=0.04)
        assert ours.est == pytest.approx(x.mean()) and ours.n == 40

    def test_clusters_widen_the_interval(self) -> None:
        rng = np.random.default_rng(3)
        clusters = np.repeat([f"topic {i}" for i in range(15)], 10)
        x = np.repeat(rng.normal(size=15), 10) + 0.1 * rng.normal(size=150)
        by_cluster = nst.cluster_bootstrap(x, clusters, rng=rng)
        by_row = nst.cluster_bootstrap(x, None, rng=rng)
        assert by_cluster.hi - by_cluster.lo > 2 * (by_row.hi - by_row.lo)
        assert by_cluster.n == 15

    @pytest.mark.parametrize("method", ["percentile", "bca"])
    def test_arrays_are_bootstrapped_together(self, method: str) -> None:
        x = np.random.default_rng(4).normal(size=(30, 2, 3))
        got = nst.cluster_bootstrap(x, None, n=300, rng=np.random.default_rng(5), method=method)
        one = nst.cluster_bootstrap(x[:, 1, 2], None, n=300, rng=np.random.default_rng(5), method=method)
        assert got.lo.shape == (2, 3)
        assert (got.lo[1, 2], got.hi[1, 2]) == pytest.approx((one.lo, one.hi))

    def test_bootstrap_refuses_missing_scores(self) -> None:
        with pytest.raises(InputError, match="not finite"):
            nst.cluster_bootstrap(np.array([1.0, np.nan, 2.0]), None, rng=np.random.default_rng(0), n=20)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.integers(0, 30), min_size=1, max_size=8))
    def test_halves_hold_every_fold_once(self, counts: list[int]) -> None:
        if sum(c > 0 for c in counts) < 2:
            with pytest.raises(InputError, match="two folds"):
                nst.halves_of_folds(np.array(counts))
            return
        first, second = nst.halves_of_folds(np.array(counts))
        assert sorted(first + second) == [i for i, c in enumerate(counts) if c > 0]
        assert abs(sum(counts[i] for i in first) - sum(counts[i] for i in second)) <= max(counts)

    def test_split_half_agreement(self) -> None:
        got = nst.split_half_agreement(np.array([1.0, -2.0, 1.0, 0.0]), np.array([0.1, -1.0, -1.0, 0.0]))
        assert got.tolist() == [True, True, False, False]

    def test_spearman(self) -> None:
        a, b = np.random.default_rng(6).normal(size=(2, 20))
        assert nst.spearman(a, b) == pytest.approx(tuple(sps.spearmanr(a, b)))
        with pytest.raises(InputError, match="constant"):
            nst.spearman(np.ones(5), a[:5])

    def test_mantel_by_enumeration(self) -> None:
        rng = np.random.default_rng(7)
        a, b = rng.normal(size=(2, 4, 4))
        orders = [np.array(o) for o in itertools.permutations(range(4))]
        r, p = nst.mantel(a, b, rng=rng, orders=orders)
        off = ~np.eye(4, dtype=bool)
        assert r == pytest.approx(sps.spearmanr(a[off], b[off]).statistic)
        null = [sps.spearmanr(a[np.ix_(o, o)][off], b[off]).statistic for o in orders]
        assert p == pytest.approx(np.mean(np.abs(null) >= abs(r) - 1e-12))

    def test_mantel_finds_a_planted_circle(self) -> None:
        from neva_tl.core.values import distance_matrix

        rng = np.random.default_rng(8)
        distance = distance_matrix()
        noise = rng.normal(size=distance.shape)
        r, p = nst.mantel(-distance / 180 + 0.3 * noise, distance, rng=rng, permutations=999, alternative="less")
        assert r < -0.4 and p <= 0.01
        _, p_null = nst.mantel(noise, distance, rng=rng, permutations=999, alternative="less")
        assert p_null > 0.01


class TestPower:
    @pytest.mark.parametrize(("g", "n"), [(0.5, 34), (0.2, 199), (0.8, 10)])
    def test_power_equals_statsmodels(self, g: float, n: int) -> None:
        theirs = TTestPower().power(g, n, 0.05)
        assert nst.power_of_t(g, n) == pytest.approx(theirs, abs=1e-6)
        theirs = TTestIndPower().power(g, n, 0.05)
        assert nst.power_of_t(g, n, paired=False) == pytest.approx(theirs, abs=1e-6)

    @pytest.mark.parametrize("g", [0.3, 0.5, 1.0])
    def test_pairs_needed_equals_statsmodels(self, g: float) -> None:
        assert nst.pairs_needed(g) == int(np.ceil(TTestPower().solve_power(g, power=0.8, alpha=0.05)))
        assert nst.pairs_needed(-g, paired=False) == int(np.ceil(TTestIndPower().solve_power(g, power=0.8, alpha=0.05)))

    def test_minimum_effect_needs_more(self) -> None:
        n = nst.pairs_needed(0.5, delta=0.2)
        assert n is not None and n > 1.5 * nst.pairs_needed(0.5)
        x = np.random.default_rng(0).normal(0.5, 1.0, (n, 3000))
        found = np.mean(nst.minimum_effect_p(nst.paired_g(nst.moments(x)), 0.2) <= 0.05)
        assert found == pytest.approx(0.8, abs=0.03)
        assert nst.pairs_needed(0.15, delta=0.2) is None

    @pytest.mark.parametrize("n", [5, 30, 200])
    def test_detectable_effect_equals_statsmodels(self, n: int) -> None:
        theirs = TTestPower().solve_power(None, nobs=n, alpha=0.01, power=0.8)
        assert nst.detectable_g(n, alpha=0.01) == pytest.approx(theirs, rel=1e-4)
        theirs = TTestIndPower().solve_power(None, nobs1=n, alpha=0.01, power=0.8)
        assert nst.detectable_g(n, alpha=0.01, paired=False) == pytest.approx(theirs, rel=1e-4)

    @settings(max_examples=25, deadline=None)
    @given(st.integers(4, 400), st.floats(0, 0.5), st.floats(0.5, 0.95), st.booleans())
    def test_detectable_effect_is_the_inverse_of_power(self, n: int, delta: float, power: float, paired: bool) -> None:
        g = nst.detectable_g(n, power=power, alpha=0.01, delta=delta, paired=paired)
        assert g > delta
        assert nst.power_of_t(g, n, alpha=0.01, delta=delta, paired=paired) == pytest.approx(power, abs=1e-5)

    def test_detectable_effect_refuses(self) -> None:
        with pytest.raises(InputError, match="power"):
            nst.detectable_g(20, power=0.01)
        with pytest.raises(InputError, match="n >= 2"):
            nst.detectable_g(1)

    def test_power_at_the_boundary_is_alpha(self) -> None:
        assert nst.power_of_t(0.2, 50, delta=0.2, alpha=0.03) == pytest.approx(0.03, abs=1e-8)


class TestOverlap:
    def test_by_hand(self) -> None:
        found = nst.overlap({1, 2, 3}, {2, 3, 4, 5}, 10)
        assert (found.size_a, found.size_b, found.shared) == (3, 4, 2)
        assert found.jaccard == pytest.approx(2 / 5) and found.expected == pytest.approx(1.2)
        assert found.expected_jaccard == pytest.approx(1.2 / 5.8)
        with pytest.raises(InputError, match="a set of 4 was chosen from only 3"):
            nst.overlap({1}, {2, 3, 4, 5}, 3)
        assert nst.overlap(set(), set(), 5).jaccard == 0

    @given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
    def test_tails_by_enumeration(self, m: int, n: int, shared: int) -> None:
        """All sets of n among six beside the first m: the share that has at least, at most so many in common."""
        shared = max(min(shared, m, n), m + n - 6)
        a, b = set(range(m)), set(range(m - shared, m - shared + n))
        counts = np.array([len(a & set(other)) for other in itertools.combinations(range(6), n)])
        found = nst.overlap(a, b, 6)
        assert found.shared == shared and found.expected == pytest.approx(counts.mean())
        assert found.p_more == pytest.approx((counts >= shared).mean())
        assert found.p_fewer == pytest.approx((counts <= shared).mean())
