"""Overlap of two sets by hand and by enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva_tl.core import statistics as nst
from neva_tl.core.errors import InputError

pytestmark = pytest.mark.core


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
