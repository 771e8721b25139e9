"""Multiple testing against SciPy, statsmodels and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as sps
from statsmodels.stats.multitest import multipletests

from neva_tl.core import statistics as nst
from neva_tl.core.errors import InputError

pytestmark = pytest.mark.core


def samples(n_b: int = 17) -> tuple[np.ndarray, np.ndarray]:
    n_a, shape = 23, (3, 5)
    rng = np.random.default_rng(0)
    shift = rng.normal(size=shape)
    return rng.normal(shift, 1.0, (n_a, *shape)), rng.normal(0.0, 1.7, (n_b, *shape))


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
        # q = alpha to the last digit: dividing by ranks or multiplying alpha by them decides by its rounding
        clear = np.abs(q - alpha) > 1e-12
        np.testing.assert_array_equal((p <= found.largest)[clear], rejected[clear])

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
