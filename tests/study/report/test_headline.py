"""Summary sentences of the report: counts of neurons, reasons, orders and costs."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pandas as pd
import pytest

from helpers import fake_run as fake
from neva_tl.circuits import CircuitGraph
from neva_tl.study.report import circuits, tables
from neva_tl.study.report.headline import sentences, undefined_nlr


def m(est: float | None, lo: float | None = None, hi: float | None = None) -> dict[str, Any]:
    return {"est": est, "lo": lo, "hi": hi, "n": 60}


@pytest.fixture
def results() -> dict[str, Any]:
    return fake.results(fake.methods())


def line(results: dict[str, Any], start: str, run_tables: dict[str, pd.DataFrame] | None = None) -> str:
    return next(text for text in sentences(results, run_tables or {}) if text.startswith(start))


def test_neurons_are_counted_once_however_many_values_select_them(results: dict[str, Any]) -> None:
    rows = [("power", 1, 3), ("power", 1, 4), ("security", 1, 3), ("security", 2, 3), ("security", 2, 5)]
    table = pd.DataFrame(rows, columns=["value", "layer", "neuron"])
    results["model"] |= {"n_layers": 4, "d_mlp": 384}
    assert line(results, "Selection", {"neurons": table}) == (
        "Selection: 4 distinct neurons of the model's 1,536 for 2 values (2 to 3 per value; values share neurons), "
        "in layers 1 to 2."
    )
    apart = table[table["layer"] == 1].drop_duplicates(["layer", "neuron"])
    assert "2 distinct neurons of the model's 1,536 for one value, in" in line(results, "Selection", {"neurons": apart})
    results["model"] = {}
    assert line(results, "Selection", {"neurons": table}).startswith("Selection: 4 distinct neurons for 2 values")


@pytest.mark.parametrize(
    ("gain", "leakage", "reason"),
    [
        (m(0.41, 0.35, 0.47), m(None), "no value besides the steered one was measured"),
        (m(0.41, -0.02, 0.8), m(0.1, 0.0, 0.2), "the interval of the gain reaches 0"),
        (m(-0.3, -0.5, -0.1), m(0.1, 0.0, 0.2), "the interval of the gain reaches 0"),
        (m(0.41), m(0.1), "the gain has no interval"),
        (m(None), m(0.1), "no gain was measured"),
        (m(0.41, 0.35, 0.47), m(0.1, 0.0, 0.2), "too few bootstrap draws define it"),
    ],
)
def test_an_undefined_ratio_has_its_own_reason(
    results: dict[str, Any], gain: dict[str, Any], leakage: dict[str, Any], reason: str
) -> None:
    results["methods"]["neva"] |= {"gain": gain, "leakage": leakage, "nlr": m(None)}
    assert undefined_nlr(results["methods"]["neva"]) == reason
    results["methods"]["caa"] |= {"nlr": m(0.3, 0.2, 0.4)}
    assert line(results, "Leakage") == f"Leakage: NLR is not defined for NeVA ({reason})."


@pytest.mark.parametrize(
    ("neva", "caa", "said", "unsaid"),
    [
        (m(0.5, 0.4, 0.6), m(0.9, 0.8, 1.0), "NeVA leaks less per unit of gain", "overlap"),
        (
            m(0.5, 0.4, 0.6),
            m(0.3, 0.2, 0.45),
            "CAA leaks less per unit of gain, but the two intervals overlap",
            "differs",
        ),
        (m(-0.01, -0.03, 0.01), m(-0.02, -0.04, 0.01), "neither differs from 0", "leaks less"),
        (
            m(-0.01, -0.03, 0.01),
            m(-0.01, -0.04, 0.01),
            "equal to two decimals, and neither differs from 0",
            "leaks less",
        ),
        (m(0.2, 0.1, 0.3), m(0.2, 0.1, 0.3), "equal to two decimals", "overlap"),
    ],
)
def test_an_order_is_stated_once_and_with_its_doubt(
    results: dict[str, Any], neva: dict[str, Any], caa: dict[str, Any], said: str, unsaid: str
) -> None:
    results["methods"]["neva"]["nlr"], results["methods"]["caa"]["nlr"] = neva, caa
    text = line(results, "Leakage")
    assert said in text and unsaid not in text
    assert text.count("leaks less") <= 1 and text.count("overlap") <= 1


def test_a_third_method_is_lowest_only_clear_of_both(results: dict[str, Any]) -> None:
    methods = results["methods"]
    for name in methods:
        methods[name]["nlr"] = m(0.6, 0.5, 0.7)
    methods["caa_projected"]["nlr"] = m(0.5, 0.3, 0.65)
    methods["random"]["nlr"] = m(0.0, -0.1, 0.1)
    assert "leaks least" not in line(results, "Leakage")
    methods["caa_projected"]["nlr"] = m(0.2, 0.1, 0.3)
    assert "CAA projected leaks least, with NLR 0.20 [0.10, 0.30]" in line(results, "Leakage")


def test_runs_without_neva_and_caa_have_the_same_sentences(results: dict[str, Any]) -> None:
    methods = results["methods"]
    results["methods"] = {"persona_vector": methods["caa"], "neva_shift": methods["neva"], "role": methods["role"]}
    for name in ("neva_shift", "persona_vector"):
        results["methods"][name]["nlr"] = m(0.6, 0.5, 0.7)
    results["methods"]["persona_vector"]["nlr"] = m(0.2, 0.1, 0.3)
    assert line(results, "Gain").startswith("Gain: edited towards a value, NeVA shift moves its score by")
    assert line(results, "Leakage") == (
        "Leakage: NLR is 0.60 [0.50, 0.70] for NeVA shift and 0.20 [0.10, 0.30] for persona vector; persona vector leaks "
        "less per unit of gain."
    )
    assert "with NeVA shift and" in line(results, "Fluency") and "persona vector:" in line(results, "Capability")
    del results["methods"]["persona_vector"], results["methods"]["role"]
    assert line(results, "Leakage") == "Leakage: NLR is 0.60 [0.50, 0.70] for NeVA shift."


def test_a_gain_within_noise_is_not_sold_as_one(results: dict[str, Any]) -> None:
    results["methods"]["neva"]["gain"] = m(0.04, -0.11, 0.22)
    assert "by 0.04 [−0.11, 0.22] on average over values, which does not differ from 0" in line(results, "Gain")
    results["methods"]["neva"]["gain"] = m(0.4, 0.3, 0.5)
    assert "differ from 0" not in line(results, "Gain")


def test_every_cost_of_the_main_methods_is_stated(results: dict[str, Any]) -> None:
    for name in ("neva", "caa", "role"):
        results["methods"][name]["capability"] = {
            "accuracy": {"base": m(1.0), "edited": m(0.95)},
            "kl": {"base": m(1.25e-7), "edited": m(0.9928)},
            "perplexity": {"base": m(7.0), "edited": m(17.11)},
        }
    text = line(results, "Capability")
    assert text.count("KL 0.993 nats per token") == text.count("accuracy 1.00 → 0.95") == 3


def test_placebos_at_a_lent_dose_have_no_count(results: dict[str, Any]) -> None:
    assert "at the doses of NeVA shift gain" in line(results, "Placebo")
    table = tables.methods(fake.methods().assign(reached="9/10"))
    column = [c["label"] for c in table["columns"]].index("reached")
    cells = {row[0]["text"]: row[column]["text"] for row in table["rows"]}
    assert cells["random neurons"] == "–" and cells["NeVA"] == cells["CAA"] == "9/10"
    values = tables.values(fake.values())
    column = [c["label"] for c in values["columns"]].index("status")
    assert {row[column]["text"] for row in values["rows"] if row[0]["text"] == "random neurons"} == {
        "dose of NeVA shift"
    }


def meta(f: float, lo: float, hi: float) -> dict[str, Any]:
    faithfulness = {"f": f, "f_lo": lo, "f_hi": hi, "random_mean": 0.02, "completeness": 0.9, "texts": 40}
    return {"size": 60, "faithfulness": faithfulness}


def test_a_faithfulness_that_contains_0_and_1_is_not_measurable(results: dict[str, Any]) -> None:
    clear, wide = meta(0.86, 0.8, 0.91), meta(-1.57, -16.65, 9.39)

    def said(*metas: dict[str, Any]) -> str:
        return next(text for text in sentences(results, {}, metas) if text.startswith("Circuits"))

    assert said(wide) == (
        "Circuits: F is not measurable on the texts of one value: its interval contains both 0 and 1."
    )
    both = said(clear, wide)
    assert "the circuits of one value (60 heads and neurons) alone keep 0.86" in both and "−1.57" not in both
    assert both.endswith("F is not measurable on the texts of one value: its interval contains both 0 and 1.")
    assert "not measurable" not in said(clear, meta(1.2, 0.9, 1.6))

    graphs = {name: CircuitGraph(nx.DiGraph(), one) for name, one in (("power", clear), ("security", wide))}
    table = circuits.faithfulness(graphs)
    assert table is not None
    columns = [column["label"] for column in table["columns"]]
    cells = {row[0]["text"]: dict(zip(columns, (cell["text"] for cell in row), strict=True)) for row in table["rows"]}
    assert cells["power"]["F"] == "0.86 [0.80, 0.91]" and cells["power"]["completeness"] == "0.90"
    assert cells["security"]["F"] == "not measurable here" and cells["security"]["completeness"] == "–"


def controlled(results: dict[str, Any], **lows: float) -> dict[str, Any]:
    """Results of a judge that needs a control: value -> lower limit of the role prompt's gain."""
    values = {name: m(low + 0.1, low, low + 0.2) for name, low in lows.items()}
    missing = [name for name, low in lows.items() if low <= 0]
    controls = {"method": "role", "all": m(0.25, 0.05, 0.45), "values": values, "not_measurable": missing}
    return results | {"judge": "logprob", "controls": controls}


#: Starts of the sentences that make a claim about scores of values.
CLAIMS = ("Gain", "Leakage", "Ablating", "Placebo", "Role prompt")


def test_no_claim_about_an_unmeasurable_value_without_its_caveat(results: dict[str, Any]) -> None:
    methods = results["methods"]
    for name in methods:
        methods[name]["nlr"] = m(0.6, 0.5, 0.7)
    methods["caa_projected"]["nlr"] = m(0.2, 0.1, 0.3)
    methods["neva"]["gain_measurable"] = m(0.52, 0.4, 0.6)
    ablation = pd.DataFrame({"operation": ["zero"], "change": [-0.2]})
    some = controlled(results, power=0.1, security=-0.1, tradition=0.0)
    lines = sentences(some, {"ablation": ablation})
    note = " (not measurable by logprob: security, tradition)"
    for start in CLAIMS:
        (text,) = [line for line in lines if line.startswith(start)]
        # full stops of sentences are followed by a space or end the line; those of numbers are not
        for sentence in text.removesuffix(".").split(". "):
            assert sentence.count(note) == 1, sentence
    assert "on average over values (not measurable by logprob: security, tradition), by 0.52 [0.40, 0.60] over the" in (
        line(some, "Gain")
    )
    assert line(some, "Positive control") == (
        "Positive control: the role prompt gains 0.25 [0.05, 0.45] (mean of 3 values); not measurable by logprob: security, "
        "tradition."
    )
    none = controlled(results, power=-0.1, security=-0.1)
    assert "(not measurable by logprob: all 2 values (power, security))" in line(none, "Gain")


def test_measurable_values_need_no_caveat(results: dict[str, Any]) -> None:
    every = controlled(results, power=0.1, security=0.2)
    assert not [text for text in sentences(every, {}) if "not measurable" in text]
    assert line(every, "Positive control").endswith("(mean of 2 values); every value is measurable by logprob.")
    one = controlled(results, power=0.1)
    assert line(one, "Positive control").endswith("gains 0.25 [0.05, 0.45]; power is measurable by logprob.")


def test_runs_without_controls_take_those_of_their_role_prompt(results: dict[str, Any]) -> None:
    per_value = {"power": {"gain": m(0.2, 0.1, 0.3)}, "security": {"gain": m(0.2)}}
    results["methods"]["role"]["per_value"] = per_value
    stored = {"judge": "logprob"}
    assert "not measurable by logprob: security" in line(results | stored, "Gain")  # a gain without an interval
    del results["methods"]["role"]
    assert "measurable" not in " ".join(sentences(results | stored, {}))
    results["methods"]["role"] = {"per_value": per_value, "gain": m(0.2)}
    assert "measurable" not in " ".join(sentences(results | {"judge": "exact"}, {}))
