"""Power and detectable effects against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.power import TTestIndPower, TTestPower

from neva_tl.core import statistics as nst
from neva_tl.core.errors import InputError

pytestmark = pytest.mark.core


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
