"""Layers over which CAA is spread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva_tl.methods.caa import default_layers
from neva_tl.methods.caa_layers import spread_layers

pytestmark = pytest.mark.core


@given(st.integers(1, 80), st.data())
def test_spread_layers(n_layers: int, data: st.DataObject) -> None:
    chosen = data.draw(st.none() | st.integers(0, n_layers - 1).map(lambda layer: (layer,)))
    got = spread_layers(n_layers, chosen)
    assert len(got) == min(n_layers, max(2, min(10, n_layers // 3)))
    assert list(got) == list(range(got[0], got[0] + len(got))) and got[0] >= 0 and got[-1] < n_layers
    assert (chosen or default_layers(n_layers))[0] in got
    several = tuple(sorted({0, n_layers - 1}))
    if len(several) > 1:
        assert spread_layers(n_layers, several) == several
