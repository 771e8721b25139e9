"""Tails of the noncentral t against SciPy's noncentral F."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as sps

from neva_tl.core.statistics.tails import two_tails

pytestmark = pytest.mark.core


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 80), st.floats(2, 5000), st.floats(0, 30))
def test_tails_are_never_nan(c: float, df: float, ncp: float) -> None:
    p = float(two_tails(c, df, ncp))
    assert 0 <= p <= 1
    by_f = sps.ncf.sf(c**2, 1, df, ncp**2)
    if np.isfinite(by_f) and ncp > 0.1:
        assert p == pytest.approx(by_f, abs=1e-7, rel=1e-3)
