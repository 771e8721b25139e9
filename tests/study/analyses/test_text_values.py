"""Several text-judged runs as one result: cells written by hand, so that means, counts and verdicts are known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.scripts import load_script
from helpers.text_runs import TARGET, items, record, text_run, write_cell
from neva_tl.core.errors import InputError
from neva_tl.evaluation.measures.result import measure
from neva_tl.study import Study
from neva_tl.study.analyses.reopened_run import Run
from neva_tl.study.analyses.text_values import equal_gain as eg
from neva_tl.study.analyses.text_values import goals, tables
from neva_tl.study.analyses.text_values.conditions import join_runs
from neva_tl.study.analyses.text_values.resampling import resampled_mean
from neva_tl.study.analyses.text_values.result import text_values
from neva_tl.study.run import tables as study_tables
from neva_tl.study.run.cell_runner import CellRunner
from neva_tl.study.run.comparison import stored_responses
from neva_tl.study.run.run_folder import RunFolder

GAINS = {
    "neva_shift": {"power": 0.3, "tradition": 0.2},
    "persona_vector": {"power": 0.2, "tradition": 0.25},
    "role": {"power": 0.25, "tradition": 0.0},
}


def row(table: pd.DataFrame, **where: object) -> pd.Series:
    for name, content in where.items():
        table = table[table[name] == content]
    assert len(table) == 1
    return table.iloc[0]


def test_one_run_repeats_its_own_measures(tmp_path: Path) -> None:
    """Gain, wrong way and NLR of a join of one run are those that the study computes, to the last digit."""
    store = text_run(tmp_path / "a", GAINS, leak={"neva_shift": 0.06})
    joined = join_runs([store.root], n_boot=200)
    responses = stored_responses(store, "neva_shift", TARGET, ["power", "tradition"])
    assert responses is not None
    study = measure(responses, n_boot=200)
    mean = row(tables.over_values(joined), method="neva_shift", values="all")
    assert (mean["gain"], mean["gain_lo"], mean["gain_hi"]) == (study.gain.est, study.gain.lo, study.gain.hi)
    assert (mean["nlr"], mean["nlr_lo"], mean["nlr_hi"]) == pytest.approx((study.nlr.est, study.nlr.lo, study.nlr.hi))
    assert mean["nlr"] == pytest.approx(0.06 / 0.25)
    one = row(tables.by_value(joined), method="neva_shift", value="power")
    gain = study.gains["power"]
    assert (one["gain"], one["gain_lo"], one["gain_hi"]) == (gain.est, gain.lo, gain.hi)
    assert one["wrong_way"] == study.wrong_ways["power"].est


def test_values_of_two_runs_are_one_table_with_their_controls(tmp_path: Path) -> None:
    split = [{m: {v: g[v]} for m, g in GAINS.items()} for v in ("power", "tradition")]
    runs = [text_run(tmp_path / name, gains).root for name, gains in zip("ab", split, strict=True)]
    apart = text_values(runs, n_boot=100)
    together = text_values([text_run(tmp_path / "c", GAINS).root], n_boot=100)
    pd.testing.assert_frame_equal(
        apart.values.sort_values(["method", "value"], ignore_index=True),
        together.values.sort_values(["method", "value"], ignore_index=True),
    )
    pd.testing.assert_frame_equal(apart.means, together.means)
    assert tables.measurable_values(apart.joined) == ("power",)
    assert not row(apart.values, method="neva_shift", value="tradition")["measurable"]
    # by hand: power .3 - .2 in favour of the neurons, tradition .2 - .25 against them
    pair = row(apart.pairs, rival="persona_vector", values="all")
    assert (pair["at_least"], pair["above"], pair["below"], pair["n_values"]) == (1, 1, 1, 2)
    assert pair["difference"] == pytest.approx(0.025) and pair["ratio"] == pytest.approx(0.25 / 0.225)
    assert row(apart.pairs, rival="role", values="measurable")["difference"] == pytest.approx(0.05)


def test_the_control_of_a_run_without_the_role_prompt_counts(tmp_path: Path) -> None:
    run = text_run(tmp_path / "a", GAINS)
    before = text_values([run.root], n_boot=50)
    rows = run.read_table("tables/values")
    run.write_table("tables/values", rows[rows["method"] != "role"])
    pd.testing.assert_frame_equal(text_values([run.root], n_boot=50).values, before.values)


def test_seeds_of_a_value_are_averaged_and_widen_its_interval(tmp_path: Path) -> None:
    def run(name: str, seed: int, gain: float) -> Path:
        return text_run(tmp_path / name, {"neva_shift": {"power": gain}}, seed=seed).root

    apart = text_values([run("a", 0, 0.1), run("b", 1, 0.2), run("c", 2, 0.3)], n_boot=400).values.iloc[0]
    same = text_values([run("d", 0, 0.2), run("e", 1, 0.2), run("f", 2, 0.2)], n_boot=400).values.iloc[0]
    assert apart["seeds"] == 3 and apart["gain"] == pytest.approx(0.2) == pytest.approx(same["gain"])
    assert (apart["gain_min"], apart["gain_max"]) == pytest.approx((0.1, 0.3))
    assert apart["gain_hi"] - apart["gain_lo"] > 1.5 * (same["gain_hi"] - same["gain_lo"])


def test_resampled_means_follow_theory() -> None:
    """Without noise of prompts the spread is that of values: sd / sqrt(n); seeds add theirs; the data come first."""
    gains = np.array([0.1, 0.2, 0.3, 0.6])
    constant = [[np.full(20001, gain)] for gain in gains]
    drawn = resampled_mean(constant, seed=0, over_values=True)
    assert drawn[0] == pytest.approx(gains.mean())
    assert drawn[1:].std() == pytest.approx(gains.std() / 2, rel=0.03)
    assert np.ptp(resampled_mean(constant, seed=0, over_values=False)) == pytest.approx(0)
    seeds = [[np.full(20001, gain) for gain in (0.0, 0.3)], [np.full(20001, 0.2)]]
    drawn = resampled_mean(seeds, seed=0, over_values=False)
    assert drawn[0] == pytest.approx((0.15 + 0.2) / 2)
    assert drawn[1:].std() == pytest.approx(0.15 / np.sqrt(2) / 2, rel=0.03)
    assert (drawn == resampled_mean(seeds, seed=0, over_values=False)).all()


def test_an_interval_over_values_needs_three_and_is_wider(tmp_path: Path) -> None:
    gains = {"neva_shift": {"power": 0.1, "tradition": 0.3, "security": 0.5}}
    three = text_values([text_run(tmp_path / "a", gains).root], n_boot=400).means.iloc[0]
    assert three["gain_values_hi"] - three["gain_values_lo"] > 1.5 * (three["gain_hi"] - three["gain_lo"])
    two = text_values([text_run(tmp_path / "b", GAINS).root], n_boot=50).means
    assert two["gain_values_lo"].isna().all() and two["kl_lo"].isna().all()


def test_what_cannot_be_joined_is_refused(tmp_path: Path) -> None:
    first = text_run(tmp_path / "a", GAINS).root
    with pytest.raises(InputError, match=r"both steer 'power' by neva_shift with seed 0"):
        join_runs([first, text_run(tmp_path / "b", GAINS).root], n_boot=10)
    with pytest.raises(InputError, match="differ in their judge"):
        join_runs([first, text_run(tmp_path / "c", GAINS, seed=1, judge="llm:other").root], n_boot=10)
    with pytest.raises(InputError, match="differ in their model"):
        join_runs([first, text_run(tmp_path / "d", GAINS, seed=1, weights="b" * 64).root], n_boot=10)
    other = text_run(tmp_path / "e", GAINS, seed=1)
    texts = other.read_table("cells/base.texts")
    other.write_table("cells/base.texts", texts.assign(prompt=texts["prompt"] + "?"), csv=False)
    with pytest.raises(InputError, match="differ in their test prompts"):
        join_runs([first, other.root], n_boot=10)
    (text_run(tmp_path / "f", GAINS).root / "cells/base.texts.parquet").unlink()
    with pytest.raises(InputError, match="read no texts"):
        join_runs([tmp_path / "f"], n_boot=10)
    with pytest.raises(InputError, match="no run was named"):
        join_runs([])


@pytest.mark.parametrize(
    ("est", "lo", "hi", "at_least", "verdict"),
    [
        (0.1, 0.05, 0.2, True, "met"),
        (0.1, -0.05, 0.2, True, "met in the estimate"),
        (-0.1, -0.3, 0.2, True, "missed in the estimate"),
        (-0.1, -0.3, -0.05, True, "missed"),
        (-0.1, -0.3, -0.05, False, "met"),
        (0.1, 0.05, 0.2, False, "missed"),
        (0.1, None, None, True, "met"),
        (None, None, None, True, "not measured"),
        (float("nan"), None, None, False, "not measured"),
    ],
)
def test_verdicts(est: float | None, lo: float | None, hi: float | None, at_least: bool, verdict: str) -> None:
    assert goals.verdict(est, lo, hi, 0.0, at_least=at_least) == verdict


def test_goals_by_rule(tmp_path: Path) -> None:
    run = text_run(tmp_path / "a", GAINS, perplexity={"neva_shift": 2.8}, neurons=1200)
    table = text_values([run.root], n_boot=100).goals.set_index("goal")
    assert table.loc["most neurons of a value", "verdict"] == "missed"
    perplexity = table.loc["perplexity of its texts over that of the unedited texts"]
    assert perplexity["figure"] == pytest.approx(1.4) and perplexity["verdict"] == "missed"
    assert table.loc["rise of the invalid rate", "verdict"] == "met"
    role = table.loc["gain minus that of the role prompt"]
    # power alone is measurable: .3 against .25
    assert (role["values"], role["n_values"], role["verdict"]) == ("measurable", 1, "met")
    assert role["figure"] == pytest.approx(0.05)
    assert table.loc["KL over a vector's at equal validation gain", "verdict"] == "not measured"
    control = table.loc["values whose positive control works", "note"]
    assert (
        "not measurable: tradition" in control and "moved by the edit but not by the role prompt: tradition" in control
    )


def test_equal_validation_gain_reads_curves_and_compares_cells(tmp_path: Path) -> None:
    curves = pd.DataFrame(
        [
            *({"method": "neva_shift", "dose": d, "gain": g, "admissible": True} for d, g in ((2, 0.1), (4, 0.3))),
            *(
                {"method": "persona_vector", "dose": d, "gain": g, "admissible": g < 0.5}
                for d, g in ((1, 0.2), (2, 0.6))
            ),
        ]
    ).assign(steered="power", invalid=0.0)
    doses = eg.matched_doses(curves, ["neva_shift"], ["persona_vector"]).iloc[0]
    # the vector's dose 2 breaks texts, so .2 is the common gain: half way between the neurons' doses
    assert (doses["validation_gain"], doses["dose_ours"], doses["dose_rival"]) == pytest.approx((0.2, 3.0, 1.0))
    assert eg.reaching_dose(curves[curves["method"] == "neva_shift"], 0.05) == pytest.approx(1.0)
    assert eg.reaching_dose(curves[curves["method"] == "neva_shift"], 0.4) is None

    run = text_run(tmp_path / "a", {m: {"power": g["power"]} for m, g in GAINS.items()}, curves=curves)
    cells = {"ours": "cells/equal_gain/neva_shift/power@3", "rival": "cells/measure/persona_vector/power@0.2"}
    scores = items({"power": 0.2, "tradition": 0.02, "benevolence": 0.02, "security": 0.02}, 0.1, "power")
    write_cell(run, cells["ours"], scores, record(0.02, dose=3.0, status="validation gain 0.200"))
    run.write_table(eg.DOSES, pd.DataFrame([doses.to_dict() | {f"cell_{side}": name for side, name in cells.items()}]))
    result = text_values([run.root], n_boot=100)
    mean = row(result.equal_gain, value="all")
    assert (mean["gain_ours"], mean["nlr_ours"], mean["kl_ours"]) == pytest.approx((0.2, 0.1, 0.02))
    assert mean["kl_ratio"] == pytest.approx(0.2) and mean["gain_difference"] == pytest.approx(0.0)
    kl = row(result.goals, goal="KL over that of the persona vector at equal validation gain")
    assert kl["verdict"] == "met" and "0.02 against 0.10" in kl["note"]
    # the vector leaks nothing, so no ratio
    nlr = row(result.goals, goal="NLR over that of the persona vector at equal validation gain")
    assert nlr["verdict"] == "not measured" and "within noise" in nlr["note"]


@pytest.fixture(scope="module")
def word_run(small_study: Callable[..., Study], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study judged by word lists, with curves of doses that rise as made up here: a random model's do not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_tables, "_figures", lambda cells, jobs: None)
        study = small_study(judge="wordlist", values=("power",), methods=("neva_shift", "caa"))
        folder = study.run(tmp_path_factory.mktemp("words") / "run").folder
    store = RunFolder(folder)
    curves = store.read_table("tables/dose")
    rising = curves["dose"] * curves["method"].map({"neva_shift": 0.08, "caa": 0.1})
    broken = (curves["method"] == "caa") & (curves["dose"] > 2)
    store.write_table("tables/dose", curves.assign(gain=rising, admissible=~broken))
    return folder


def test_a_run_is_measured_at_its_doses_once(
    word_run: Path, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(word_run)
    doses = eg.measure_equal_gain(run, tiny_model)
    (row_of_doses,) = doses.to_dict("records")
    assert row_of_doses["validation_gain"] == pytest.approx(0.2)
    assert (row_of_doses["dose_ours"], row_of_doses["dose_rival"]) == pytest.approx((2.5, 2.0))
    for side in ("ours", "rival"):
        cell = run.store.read_json(f"{row_of_doses[f'cell_{side}']}.json")
        assert cell["dose"] == pytest.approx(row_of_doses[f"dose_{side}"]) and cell["capability"]["kl"] > 0
    monkeypatch.setattr(CellRunner, "measure", lambda *_: pytest.fail("measured again"))
    pd.testing.assert_frame_equal(eg.measure_equal_gain(run, tiny_model), doses)
    with pytest.raises(InputError, match="searched no dose of 'npti'"):
        eg.measure_equal_gain(run, tiny_model, rivals=["npti"])
    with pytest.raises(InputError, match="read no texts"):
        eg.measure_equal_gain(Run(RunFolder(tmp_path), run.config, run.manifest), tiny_model)
    table = eg.joined_table(join_runs([word_run], n_boot=20))
    assert table["value"].tolist() == ["power", "all"] and table["kl_ours"].notna().all()


def test_the_script_writes_and_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = text_run(tmp_path / "a", GAINS, leak={"neva_shift": 0.06}).root, tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["text_values.py", str(run), "--out", str(out), "--draws", "50"])
    assert load_script("text_values").main() == 0
    printed = capsys.readouterr().out
    assert "| neva_shift | 2 |" in printed and "gain minus that of the role prompt" in printed
    assert (out / "text_values.md").read_text().strip() == printed.strip()
    assert {file.stem for file in (out / "tables").glob("*.csv")} >= {"text_values", "text_goals", "text_pairs"}
    monkeypatch.setattr(sys, "argv", ["text_values.py", str(tmp_path / "nothing"), "--out", str(out)])
    assert load_script("text_values").main() == 2
    error = capsys.readouterr().err
    assert error.startswith("text_values: ") and error.count("\n") == 1


def test_the_figure_has_the_means_or_one_value(tmp_path: Path) -> None:
    result = text_values([text_run(tmp_path / "a", GAINS).root], n_boot=20)
    labels = ["NeVA shift", "persona vector", "role prompt"]
    for value, gain in ((None, 0.25), ("power", 0.3)):
        (axes,) = result.show(value).axes
        assert sorted(label.get_text() for label in axes.get_yticklabels()) == labels
        drawn = [x for collection in axes.collections for x, _ in collection.get_offsets()]
        drawn += [x for line in axes.lines for x in np.atleast_1d(line.get_xdata())]
        assert np.isclose(np.array(drawn, dtype=float), gain).any()
    with pytest.raises(InputError, match="no run steered 'thrift'"):
        result.show("thrift")
    assert "persona_vector" in result._repr_html_()
