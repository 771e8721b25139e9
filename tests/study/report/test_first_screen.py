"""The first screen says what the run measured, for every set of methods and judges, and what the run leaves open."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from helpers import fake_run as fake
from neva_tl.study.report.definitions import TERMS, definitions, mark_terms, term_of
from neva_tl.study.report.example import example
from neva_tl.study.report.first_picture import first_picture
from neva_tl.study.report.limits import limits_of
from neva_tl.study.report.plain import two_sentences
from neva_tl.study.report.roles import main_method, peer_method


def m(est: float | None, lo: float | None = None, hi: float | None = None, n: int = 24) -> dict[str, Any]:
    return {"est": est, "lo": lo, "hi": hi, "n": n}


def entry(gain: dict[str, Any], leakage: dict[str, Any] | None = None, **further: Any) -> dict[str, Any]:
    return {"gain": gain, "leakage": leakage or m(0.01, -0.02, 0.03), "target_gain": 0.4, "reached": "2/2", **further}


def run(
    judge: str = "llm:judge-2b", values: tuple[str, ...] = ("power", "tradition"), **methods: Any
) -> dict[str, Any]:
    return {
        "model": {"name": "tiny"}, "judge": judge, "unit": "P(expresses)", "values": list(values), "target_gain": 0.4,
        "neurons": {name: {"k": 100} for name in values}, "methods": methods,
    }  # fmt: skip


GAINED = m(0.2, 0.1, 0.3)


@pytest.mark.parametrize(
    ("names", "main", "peer"),
    [
        (("neva", "neva_shift", "caa", "role", "random"), "neva", "caa"),
        (("role", "random", "neva_shift", "persona_vector"), "neva_shift", "persona_vector"),
        (("neva_shift", "role"), "neva_shift", "role"),
        (("caa", "role"), "caa", "role"),
        (("npti", "lape"), "npti", "lape"),
        (("role",), "role", None),
        (("random",), None, None),
        ((), None, None),
    ],
)
def test_every_set_of_methods_has_a_main_one(names: tuple[str, ...], main: str | None, peer: str | None) -> None:
    methods = {name: entry(GAINED) for name in names}
    assert (main_method(methods), peer_method(methods)) == (main, peer)
    sentences = two_sentences(run(**methods))
    assert len(sentences) == (1 if main is None else 2) and all(line.endswith(".") for line in sentences)
    assert ("for comparison" in sentences[-1]) == (peer is not None)


def test_a_gain_is_told_with_its_levels_and_its_leakage() -> None:
    capability = {"perplexity": {"base": m(20.0), "edited": m(31.5)}}
    neva = entry(GAINED, m(0.04, 0.01, 0.07), csr_base=m(0.5), csr=m(0.7), capability=capability)
    first, second = two_sentences(run(neva_shift=neva, persona_vector=entry(m(0.1, 0.05, 0.2))))
    assert first == (
        "Editing 100 neurons per value (NeVA shift) steered the model tiny towards power and tradition (one at a time): the "
        "judge's score of the steered value (0 to 1) rose from 0.50 to 0.70, a gain of 0.20 [0.10, 0.30] over 24 test prompts."
    )
    assert second == (
        "Values that were not targets rose by 0.04 [0.01, 0.07] on average (leakage); neutral text became harder to predict "
        "(perplexity 20.0 before, 31.5 after); for comparison, persona vector gained 0.10 and leaked 0.01."
    )


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (m(0.04, -0.1, 0.2), "was meant to steer the model tiny towards power, but the model's own preference for answers "
         "that express the value did not change measurably: a gain of 0.04 [−0.10, 0.20] standard deviations over 24 test "
         "items"),
        (m(-0.4, -0.5, -0.2), "fell, a gain of −0.40 [−0.50, −0.20] standard deviations"),
        (m(None), "its gain was not measured"),
    ],
)  # fmt: skip
def test_no_gain_is_sold_as_one(gain: dict[str, Any], words: str) -> None:
    results = run("logprob", ("power",), neva=entry(gain, m(None)))
    first, second = two_sentences(results)
    assert words in first and "steered the model" not in first
    assert second.startswith("No other value was measured, so leakage is unknown")
    assert "Leakage: no value besides the steered one was measured" in limits_of(results, None)


def test_what_the_control_fails_is_not_measurable_here() -> None:
    results = run(neva=entry(m(0.2, 0.1, 0.3), gain_measurable=m(0.3, 0.2, 0.4)), caa=entry(GAINED))
    results["controls"] = {
        "all": m(0.1),
        "values": {"power": m(0.2), "tradition": m(0.0)},
        "not_measurable": ["tradition"],
    }
    first, _ = two_sentences(results)
    assert "a gain of 0.30 [0.20, 0.40] over 24 test prompts and the 1 measurable value" in first
    assert "(tradition: not measurable here, not even by a role prompt)" in first
    assert "Nothing about tradition: not even a role prompt raises its score" in limits_of(results, None)
    picture = first_picture(results)
    assert picture is not None and picture["rows"][0]["cells"][0]["text"] == "0.20"

    results["controls"]["not_measurable"] = ["power", "tradition"]
    first, second = two_sentences(results)
    assert "not measurable here" in first and "0.2" not in first and "0.3" not in first
    assert second.startswith("Leakage into other values cannot be read") and "for comparison" not in second
    picture = first_picture(results)
    assert picture is not None
    assert [cell["text"] for cell in picture["rows"][0]["cells"][:2]] == ["not measurable here"] * 2


def test_the_picture_puts_every_estimate_inside_its_interval() -> None:
    results = fake.results(fake.methods())
    results["methods"]["caa"]["gain"] = m(0.4, -9.0, 9.0)  # a wide interval does not squeeze the others
    picture = first_picture(results)
    assert picture is not None and [row["label"] for row in picture["rows"]][:2] == ["NeVA", "NeVA shift"]
    for row in picture["rows"]:
        for cell in row["cells"]:
            if cell["dot"] is None:
                continue
            assert 0 <= cell["dot"] <= 100 and 0 <= cell["zero"] <= 100
            if cell["bar"]:
                left, right = cell["bar"]["left"], cell["bar"]["left"] + cell["bar"]["width"]
                assert 0 <= left <= cell["dot"] <= right <= 100.01
    spread = [row["cells"][0]["dot"] for row in picture["rows"]]
    assert max(spread) - min(spread) > 10
    many = run(**{f"method_{k}": entry(GAINED) for k in range(12)}, neva=entry(GAINED))
    picture = first_picture(many)
    assert picture is not None and len(picture["rows"]) == 7 and picture["more"] == 6
    assert first_picture(run()) is None


def test_the_example_is_the_median_and_says_so() -> None:
    rows = [("unedited", None, f"p{k}", "the sky is blue today", 0.1) for k in range(5)]
    rows += [("neva", "power", f"p{k}", f"the sky is mine {k}", 0.1 + 0.1 * k) for k in (3, 0, 4, 1, 2)]
    table = pd.DataFrame(rows, columns=["method", "steered", "prompt", "text", "score_power"])
    shown = example(table, "neva")
    assert shown is not None and shown["prompt"] == "p2" and shown["after"]["score"] == "0.30"
    assert shown["after"]["words"] == [("the sky is", False), ("mine 2", True)]
    assert shown["choice"] == "Chosen by rank: its change in score is the median of 5 prompts."
    unscored = example(table.drop(columns="score_power"), "no such method")
    assert unscored is not None and unscored["choice"] == "The first of 5 test prompts, not selected by result."
    assert example(table[table["method"] == "unedited"], None) is None


def test_limits_come_from_the_run() -> None:
    results = run("llm:tiny", neva=entry(GAINED, reached="1/2"))
    results["unit"] = "P(expresses), not calibrated"
    lines = limits_of(results, {"seed": 3}, missing=2)
    assert lines[0].startswith("The judge is a language model, tiny") and "it is the steered model itself" in lines[0]
    assert "not calibrated" in lines[0] and lines[1].startswith("No positive control")
    assert lines[2].startswith("One seed (3) and 24 test prompts")
    assert lines[3] == "The target gain of 0.4 was reached for 1 of 2 values on validation prompts"
    assert lines[4] == "2 parts of this report could not be made: see Left out"
    assert "demo world" in limits_of(run("exact", neva=entry(GAINED)), None)[0]


def test_terms_are_linked_once_and_text_is_escaped() -> None:
    html = str(mark_terms("gain <b> of NeVA shift, gain & leakage; again"))
    assert html.count('href="#def-gain"') == 1 and "&lt;b&gt;" in html and "&amp;" in html
    assert '<a class="term" href="#def-neva-here-ours">NeVA shift</a>' in html and ">again<" not in html
    names = {name for name, _ in definitions()}
    assert set(TERMS.values()) <= names
    assert term_of("gain, measurable") == "def-gain" and term_of("q") == "def-effect-size-g" and term_of("layer") == ""
