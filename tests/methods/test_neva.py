"""NEVA and its shift."""

from __future__ import annotations

import pytest

from neva_tl.methods import Evidence, build

pytestmark = pytest.mark.core


def test_neva_and_its_shift_share_the_neurons(evidence: Evidence) -> None:
    neva, shift = build("neva", evidence, "power"), build("neva_shift", evidence, "power")
    assert neva.neurons is shift.neurons is evidence.neurons["power"]  # type: ignore[attr-defined]
