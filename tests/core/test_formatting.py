"""Number formatting: one string per kind of number, whatever the type of a missing one."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva_tl.core.formatting import finite_number, fixed, format_fact, interval, plain_interval, short, signed

MISSING = (None, pd.NA, math.nan, math.inf, "x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (fixed(0.5), "0.50"),
        (fixed(-0.126), "−0.13"),
        (fixed(-0.001), "0.00"),
        (fixed(np.float32(2), 0), "2"),
        (short(0.4), ".4"),
        (short(0.4, fixed=True), ".40"),
        (short(-0.05), "−.05"),
        (short(-0.001), "0"),
        (short(1.25), "1.25"),
        (signed(0.41249), "+0.412"),
        (signed(-1.23e-5), "−1.23e−5"),
        (signed(12345.6), "+1.23e4"),
        (signed(0), "0"),
        (interval(0.421, 0.38, -0.001), "0.42 [0.38, 0.00]"),
        (interval(0.421, None, 0.46), "0.42"),
        (plain_interval(-0.421, -0.46, -0.001), "-0.42 [-0.46, -0.00]"),
        (plain_interval(0.421, None, 0.46), "0.42"),
        (format_fact(0.12345), "0.123"),
        (format_fact(12345), "12,345"),
        (format_fact(True), "True"),
    ],
)
def test_strings(text: str, expected: str) -> None:
    assert text == expected


@pytest.mark.parametrize("raw", MISSING)
def test_a_missing_number_is_a_dash(raw: object) -> None:
    assert finite_number(raw) is None
    assert fixed(raw) == interval(raw, 0.1, 0.2) == signed(raw) == "–"


def test_a_missing_estimate_in_ascii() -> None:
    assert plain_interval(None, 0.1, 0.2) == plain_interval(math.nan, None, None) == "n/a"
    assert short(math.nan) == format_fact(None) == format_fact(math.nan) == "–"


@given(st.floats(-1e6, 1e6))
def test_strings_read_back_as_the_rounded_number(number: float) -> None:
    assert float(fixed(number, 3).replace("−", "-")) == round(number, 3)
    assert float(short(number, 3).replace("−", "-")) == round(number, 3)
    assert float(signed(number).replace("−", "-")) == pytest.approx(number, rel=5.01e-3)
