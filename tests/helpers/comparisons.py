"""Comparisons of activation statistics."""

from __future__ import annotations

import numpy as np

from neva_tl.activations.stats import ActivationStats


def same(a: ActivationStats, b: ActivationStats) -> None:
    """Assert that two statistics are equal to the last bit."""
    ours, theirs = a._arrays(), b._arrays()
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        np.testing.assert_array_equal(x, theirs[name], err_msg=name)


def near(a: ActivationStats, b: ActivationStats, tolerance: float = 1e-6) -> None:
    """Assert that two statistics are equal to `tolerance` times each array's largest absolute value (at least 1)."""
    ours, theirs = a._arrays(), b._arrays()
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        np.testing.assert_allclose(
            x, theirs[name], rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(x).max())), err_msg=name
        )
