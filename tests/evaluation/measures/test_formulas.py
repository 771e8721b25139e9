"""Formulas of the leakage measures against their algebra and simulation."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl.core.values import VALUES, distance_matrix
from neva_tl.evaluation.measures import formulas


def test_circle_p_is_not_small_without_structure():
    rng = np.random.default_rng(0)
    p = [formulas.mantel_p(rng.normal(size=(10, 10)), VALUES, VALUES, n_permutations=199, seed=s) for s in range(40)]
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) <= 0.05) <= 0.15


def test_circle_works_on_some_rows():
    d = 0.3 - distance_matrix() / 600
    rows = ("power", "tradition", "benevolence")
    part = d[[VALUES.index(v) for v in rows]]
    assert formulas.mantel_p(part, rows, VALUES, n_permutations=499) <= 0.02


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10.0, allow_nan=False))
def test_measures_scale_as_they_should(seed, scale):
    d = np.random.default_rng(seed).normal(0, 0.2, (10, 10))
    target = np.arange(10)
    np.testing.assert_allclose(formulas.leakage(scale * d, target), scale * formulas.leakage(d, target))
    signed = formulas.off_target_mean(d, target)
    assert (formulas.leakage(d, target) >= np.maximum(signed, 0) - 1e-12).all()
    positive = np.maximum(d, 0)
    share = formulas.leaving_share(positive, VALUES, VALUES)
    np.testing.assert_allclose(formulas.leaving_share(scale * positive, VALUES, VALUES), share)
