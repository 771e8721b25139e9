"""The sentence and the curve of a circuit's faithfulness."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from neva_tl.circuits import Faithfulness
from neva_tl.circuits.drawing.wording import curve_svg, measurable, points, sentence


def test_sentence_and_curve() -> None:
    meta = {"size": 30, "faithfulness": {"f": 0.8, "random_mean": 0.02, "random_max": -0.1, "n_random": 20}}
    assert sentence(meta) == (
        "Faithfulness: 30 nodes alone keep F = 0.80 of the model's effect (1: all of it, 0: none); 20 random circuits of "
        "the same size keep 0.02 on average, at most −0.10."
    )
    assert sentence({}) == sentence({"faithfulness": {"f": float("nan")}}) == sentence({"faithfulness": 3}) == ""
    curve = [{"size": 4, "f": 0.5, "random": 0.1}, {"size": 1, "f": 0.2}, {"size": 9, "f": "?"}]
    assert points({"curve": curve}) == [(1.0, 0.2, None), (4.0, 0.5, 0.1)]
    root = ET.fromstring(curve_svg({"curve": curve}))
    marks = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in root.iter("circle")]
    # a square-root axis: size 1 lies half as far as size 4
    assert (marks[0][0] - 30) * 2 == pytest.approx(marks[1][0] - 30, abs=0.2) and marks[0][1] > marks[1][1]
    assert curve_svg({"curve": curve[:1]}) == ""


def test_a_result_that_is_not_measurable_shows_no_number() -> None:
    numbers = {
        "completeness": 2.57,
        "random_mean": -3.1,
        "random_max": 4.2,
        "n_random": 10,
        "m_model": 0.1,
        "m_nothing": 0.05,
    }
    sizes = {"n_heads": 1, "n_neurons": 2, "texts": 8, "split": "test"}
    unclear = Faithfulness(f=-1.57, f_lo=-16.65, f_hi=9.39, **numbers, **sizes)
    assert not unclear.measurable
    page = unclear._repr_html_()
    assert "not measurable here" in page
    assert not any(number in page for number in ("-1.57", "2.57", "-3.1", "4.2"))
    ax = unclear.show().axes[0]
    assert [text.get_text() for text in ax.texts] == ["not defined"] * 3
    assert "not measurable" in ax.get_title(loc="left")
    clear = Faithfulness(f=0.8, f_lo=0.7, f_hi=0.9, **numbers, **sizes)
    assert clear.measurable
    assert clear.note == ""
    assert "0.8" in clear._repr_html_()


def test_an_unmeasurable_f_is_not_shown_as_a_number() -> None:
    meta = {"faithfulness": {"f": -1.57, "f_lo": -16.65, "f_hi": 9.39, "random_mean": 0.4}}
    assert sentence(meta) == (
        "Faithfulness: not measurable here, because the interval of F contains both 0 (nothing) and 1 (all of the effect)."
    )
    for low, high in ((0.1, 1.3), (-0.4, 0.9), (None, None)):
        assert measurable({"f": 0.5, "f_lo": low, "f_hi": high})
    assert not measurable({"f": None, "f_lo": 0.1, "f_hi": 0.2}) and not measurable({})
