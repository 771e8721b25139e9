"""Moments: merging against pooling, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl.core import statistics as nst
from neva_tl.core.errors import InputError

pytestmark = pytest.mark.core


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
