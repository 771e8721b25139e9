"""Intervals of draws."""

from __future__ import annotations

import numpy as np

from neva_tl.evaluation.measures.estimate import interval


def test_interval_ignores_few_undefined_draws_only():
    draws = np.array([1.0] * 95 + [np.nan] * 5)
    assert interval(1.0, draws, 5).lo == 1.0
    assert interval(1.0, np.array([1.0] * 50 + [np.nan] * 50), 5).lo is None
    assert interval(float("nan"), draws, 5).est is None
    assert interval(1.0, np.array([1.0] * 90 + [np.inf] * 10), 5).hi is None
