"""Bootstrap, split halves, rank correlation and the Mantel test against SciPy and enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as sps

from neva_tl.core import statistics as nst
from neva_tl.core.errors import InputError

pytestmark = pytest.mark.core


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
