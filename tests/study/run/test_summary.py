"""From measures to entries and rows: hand-made numbers in, the same numbers out."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neva_tl.core.files import to_json
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.evaluation.measures.result import LeakageResult, measure
from neva_tl.study.run.summary import (
    binomial_m,
    mean_m,
    method_entry,
    method_row,
    reached,
    text_table,
    values_rows,
)

STEERED = ("power", "tradition")


@pytest.fixture(scope="module")
def result() -> LeakageResult:
    """D = [[.5, .1], [0, .3]] without noise."""
    base = tuple(np.linspace(0, 0.4, 8) for _ in STEERED)
    shift = np.array([[0.5, 0.1], [0.0, 0.3]])
    edited = tuple(base[j] + shift[:, [j]] for j in range(2))
    clusters = tuple(np.array(list("aabbccdd")) for _ in STEERED)
    responses = Responses("caa", STEERED, base, edited, clusters, STEERED, shared=True)
    return measure(responses, n_boot=50, n_permutations=99)


def cell(dose: float | None, status: str, invalid: float = 0.25) -> dict[str, Any]:
    capability = {"perplexity": 12.0, "kl": 0.1}
    return {
        "dose": dose,
        "status": status,
        "invalid": invalid,
        "n_texts": 20,
        "capability": capability,
        "fluency": {"repetition": 0.2},
    }


BASE = {"capability": {"perplexity": 10.0, "kl": 0.0, "accuracy": 0.9}}


def entry_of(result: LeakageResult, target: float | None = 0.4) -> dict[str, Any]:
    cells = {"power": cell(2.0, "reached", 0.0), "tradition": cell(4.0, "unreached", 0.1)}
    if target is None:
        cells = {name: cell(None, "own gain") for name in STEERED}
    return method_entry("none", target, result, cells, BASE)


def test_means_ignore_what_is_missing() -> None:
    assert mean_m([1.0, None, 3.0, float("nan")]) == {"est": 2.0, "lo": None, "hi": None, "n": 2}
    assert mean_m([None, math.inf]) == {"est": None, "lo": None, "hi": None, "n": 0}


def test_shares_have_wilson_intervals() -> None:
    k, n, z = 3.0, 20, 1.959963984540054
    p = k / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    found = binomial_m(k, n)
    assert (found["est"], found["n"]) == (p, n)
    assert (found["lo"], found["hi"]) == (pytest.approx(middle - half), pytest.approx(middle + half))
    assert binomial_m(0.0, 0) == {"est": None, "lo": None, "hi": None, "n": 0}
    nothing = binomial_m(0.0, 10)
    assert nothing["lo"] == pytest.approx(0, abs=1e-12) and nothing["hi"] > 0.1


def test_entry_holds_the_measures(result: LeakageResult) -> None:
    entry = entry_of(result)
    json.dumps(to_json(entry), allow_nan=False)
    assert (entry["gate"], entry["target_gain"], entry["reached"]) == ("none", 0.4, "1/2")
    assert entry["gain"]["est"] == pytest.approx(0.4) and entry["nlr_plain"]["est"] == pytest.approx(0.1 / 0.8)
    assert entry["csr_base"]["est"] == pytest.approx(0.2) and entry["csr"]["est"] == pytest.approx(0.6)
    assert entry["invalid"]["est"] == pytest.approx(0.05) and entry["invalid"]["n"] == 40
    assert entry["per_value"]["power"]["gain"]["est"] == pytest.approx(0.5)
    assert entry["per_value"]["tradition"]["invalid"]["est"] == pytest.approx(0.1)
    assert entry["fluency"] == {"repetition": {"est": 0.2, "lo": None, "hi": None, "n": 2}}
    perplexity = entry["capability"]["perplexity"]
    assert (perplexity["base"]["est"], perplexity["edited"]["est"]) == (10.0, 12.0)
    assert entry["capability"]["accuracy"]["edited"]["est"] is None
    assert entry_of(result, None)["reached"] == "own gain"


def test_rows_of_tables(result: LeakageResult) -> None:
    row = method_row(entry_of(result), "caa")
    assert (row["method"], row["dose"], row["ppl_base"], row["ppl"], row["acc_base"]) == ("caa", 3.0, 10.0, 12.0, 0.9)
    assert row["acc"] is None and row["gain"] == pytest.approx(0.4) and row["gain_lo"] <= row["gain"] + 1e-9
    assert method_row(entry_of(result, None), "role")["dose"] is None
    rows = values_rows(entry_of(result), "caa")
    assert [(r["steered"], r["dose"], r["status"]) for r in rows] == [
        ("power", 2.0, "reached"),
        ("tradition", 4.0, "unreached"),
    ]
    assert rows[1]["gain"] == pytest.approx(0.3)


def test_the_printed_table_shows_gaps_as_dashes(result: LeakageResult) -> None:
    rows = [method_row(entry_of(result), "caa"), method_row(entry_of(result, None), "role")]
    text = text_table(pd.DataFrame(rows), "exact", "points")
    head, names, caa, role = text.splitlines()
    assert "judge: exact" in head and "unit of gain: points" in head
    for name in ("CSR", "gain", "NLR", "NGL", "invalid", "ppl", "acc", "KL", "dose"):
        assert name in names
    assert "0.20 -> 0.60" in caa and "10.00 -> 12.00" in caa and "0.90 -> -" in caa and "3.00" in caa
    assert "own gain" in role and role.rstrip().endswith("-") and "nan" not in text


def test_a_placebo_at_a_lent_dose_has_reached_nothing_of_its_own(result: LeakageResult) -> None:
    random = replace(result, responses=replace(result.responses, method="random"))
    entry = entry_of(random)
    assert entry["reached"] == "-"
    assert {cell["status"] for cell in entry["per_value"].values()} == {"dose of neva_shift"}
    row = method_row(entry, "random")
    assert row["reached"] == "-" and row["dose"] == 3.0
    assert {r["status"] for r in values_rows(entry, "random")} == {"dose of neva_shift"}


def test_values_that_reached_are_counted_where_a_dose_was_searched() -> None:
    assert reached(["reached", "unreached", "reached"]) == "2/3" and reached(["unreached"]) == "0/1"
    assert reached(["own gain", "own gain"]) == "own gain" and reached(["dose of neva_shift"] * 2) == "-"


def test_the_printed_table_gives_the_reason_of_a_missing_ratio(result: LeakageResult) -> None:
    rows = pd.DataFrame([method_row(entry_of(result), "caa")])
    assert "NLR is - where the interval of the gain reaches 0\n" in text_table(rows, "exact", "points")
    alone = rows.assign(leakage=None, leakage_lo=None, leakage_hi=None, nlr=None)
    assert "NLR is - where no value besides the steered one was measured\n" in text_table(alone, "exact", "points")
    one_topic = rows.assign(gain_lo=None, gain_hi=None, nlr=None)
    assert "NLR is - where the gain has no interval\n" in text_table(one_topic, "exact", "points")
    noise = rows.assign(gain_lo=-0.1, nlr=None)
    both = text_table(pd.concat([one_topic, noise, rows]), "exact", "points")
    assert "NLR is - where the gain has no interval or the interval of the gain reaches 0\n" in both


def test_only_judges_with_a_control_print_the_shares(result: LeakageResult) -> None:
    """The demo's table stays as it was; others have the share, and the mean over measurable values where some are not."""
    rows = pd.DataFrame([method_row(entry_of(result), "caa")])
    names = " ".join(text_table(rows, "exact", "points").splitlines()[1].split())
    assert names == "method gate at gain reached CSR gain NLR NLR plain NGL invalid ppl acc KL dose"
    # no item falls: four topics all move up
    assert rows.loc[0, ["wrong_way", "wrong_way_lo"]].tolist() == [0.0, 0.0] and 0 < rows.loc[0, "wrong_way_hi"] < 1
    text = text_table(rows, "logprob", "SD")
    assert "wrong way" in text.splitlines()[1] and "gain (measurable)" not in text
    entry = method_entry(
        "none", 0.4, result, {name: cell(1.0, "reached") for name in STEERED}, BASE, result.gains["power"]
    )
    some = text_table(pd.DataFrame([method_row(entry, "caa")]), "logprob", "SD")
    assert "gain (measurable)" in some and "0.50 [0.50, 0.50]" in some
    assert "wrong way" not in text_table(
        rows.drop(columns=["wrong_way", "wrong_way_lo", "wrong_way_hi"]), "logprob", "SD"
    )
