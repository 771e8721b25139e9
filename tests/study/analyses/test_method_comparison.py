"""Contests between neurons and vectors, from cells written by hand: nothing is matched across gates, ratios are the hand's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.paths import ROOT
from helpers.scripts import script_path
from helpers.written_cells import ADDED, BOTH, KL, study
from neva_tl.core.errors import InputError
from neva_tl.methods import METHODS
from neva_tl.study.analyses import method_comparison as mc
from neva_tl.study.run.run_folder import RunFolder


@pytest.fixture
def studies(tmp_path: Path) -> dict[str, RunFolder]:
    whole = dict.fromkeys(ADDED, BOTH)
    study(tmp_path / "gate-none", whole, relevance=False)
    study(tmp_path / "gate-relevance", {"neva_shift": BOTH, "caa": ("power",)}, relevance=True)
    return mc.folders(tmp_path)


def test_equal_gates_only_and_ratios_by_hand(studies: dict[str, RunFolder]) -> None:
    table = mc.contests(studies, n_boot=50).set_index(["gate", "ours", "rival"])
    assert set(table.index) == {
        ("none", "neva_shift", "caa"),
        ("none", "neva_shift", "caa_projected"),
        ("probe", "neva", "caa_probe"),
        ("relevance", "neva_shift", "caa"),
    }
    row = table.loc[("none", "neva_shift", "caa")]
    # leakage is the mean of positive parts over the two other values, gains are .5 each
    assert row["nlr_ours"] == pytest.approx(0.1) and row["nlr_rival"] == pytest.approx(0.3)
    assert row["nlr_ratio"] == pytest.approx(1 / 3)
    assert row["kl_ratio"] == pytest.approx(0.25) and row["loss_ratio"] == pytest.approx(0.25)
    assert row["loss_ours"] == pytest.approx(0.2) and row["accuracy_rival"] == pytest.approx(0.4)
    assert row["kl_ratio_lo"] == pytest.approx(0.25)  # the same in both values
    only = table.loc[("relevance", "neva_shift", "caa")]
    assert only["n_values"] == 1 and only["reached_ours"] == 2 and only["reached_rival"] == 1


def test_verdicts_hold_ours_against_the_rival_that_leaks_least(studies: dict[str, RunFolder]) -> None:
    found = {(v["gate"], v["ours"]): v for v in mc.verdicts(mc.contests(studies, n_boot=50), loss=0.25 + 1e-9)}
    none = found["none", "neva_shift"]
    assert none["rival"] == "caa_projected"  # .2 against caa's .3
    assert none["nlr_ratio"] == pytest.approx(0.5) and none["nlr_goal"] is True
    assert none["kl_ratio"] == pytest.approx(0.2) and none["kl_goal"] is True
    assert found["probe", "neva"]["kl_goal"] is False  # .1 of .2
    assert "goal missed" in mc.sentence(found["probe", "neva"])


def test_real_models_are_matched_at_three_gains_by_methods_that_exist() -> None:
    assert mc.targets_for("demo") is None and mc.targets_for("demo:folder") is None
    assert len(mc.targets_for("smollm2") or ()) == 3
    for model in ("demo", "smollm2"):
        named = mc.methods_for(model)
        assert set(named) <= set(METHODS) and {"neva", "neva_shift", "caa", "caa_projected", "conva"} <= set(named)


def test_no_rival_that_reached_is_said() -> None:
    row = {"gate": "none", "target_gain": 0.4, "ours": "neva", "rival": "caa", "n_values": 0}
    for reached, said in ((3, "no vector method reached"), (0, "reached for no value")):
        (found,) = mc.verdicts(pd.DataFrame([{**row, "reached_ours": reached}]), loss=1.0)
        assert found["rival"] is None and said in mc.sentence(found)


def test_ratio_of_means_resamples_pairs_and_refuses_a_rival_that_loses_nothing() -> None:
    rng = np.random.default_rng(0)
    rival = rng.uniform(0.5, 1.5, size=40)
    row = mc.ratio_of_means(0.5 * rival, rival, name="kl")
    assert row["kl_ratio"] == pytest.approx(0.5) and row["kl_ratio_lo"] == pytest.approx(0.5)  # paired: no spread
    noisy = mc.ratio_of_means(0.5 * rng.permutation(rival), rival, name="kl")
    assert noisy["kl_ratio_lo"] < 0.5 < noisy["kl_ratio_hi"]
    assert np.isnan(mc.ratio_of_means(rival, np.zeros(40), name="kl")["kl_ratio"])
    assert np.isnan(mc.ratio_of_means(rival, np.full(40, np.nan), name="kl")["kl_ratio"])


def test_written_whole(studies: dict[str, RunFolder], tmp_path: Path) -> None:
    text = mc.write(tmp_path)
    table = pd.read_parquet(tmp_path / "tables" / "method_comparison.parquet")
    assert len(table) == len(ADDED) + 2 and set(table["family"]) == {"neurons", "vectors"}
    np.testing.assert_allclose(table["loss_ppl"], [KL[m] for m in table["method"]])
    np.testing.assert_allclose(table["kl_median"], [KL[m] for m in table["method"]])
    found = json.loads((tmp_path / "method_comparison.json").read_text())
    assert found["goals"] == {"nlr": 0.5, "loss": 1.0} and len(found["contests"]) == 4
    assert "neva under gate probe at gain 0.4, against caa_probe over 2 values" in text


def test_every_method_has_a_family_and_ours_are_neurons() -> None:
    assert {METHODS[m].family for m in mc.OURS} == {"neurons"}
    assert set(METHODS) >= mc.DEMO_ONLY
    assert mc.methods_for("demo:x") == (
        "neva", "caa_probe", "caa_projected_probe", "conva",
        "neva_shift", "caa", "caa_projected", "caa_layers", "caa_layers_projected", "persona_vector",
        "dpn_le", "npti", "lape", "austeer", "cna", "random", "rotated", "label_shuffled", "role", "role_few_shot",
    )  # fmt: skip
    assert mc.methods_for("smollm2") == (
        "neva", "caa_projected_probe", "conva", "neva_shift", "caa", "caa_projected", "caa_layers_projected",
        "persona_vector", "austeer", "cna", "random", "role", "role_few_shot",
    )  # fmt: skip


def test_an_empty_folder_is_refused_and_the_script_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished study"):
        mc.folders(tmp_path)
    done = subprocess.run(
        [sys.executable, str(script_path("method_comparison")), "--out", str(tmp_path), "--methods", "magic"],
        capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": ""}, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "unknown method 'magic'" in done.stderr and "Traceback" not in done.stderr
