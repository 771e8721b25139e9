"""A theory of one's own, and one concept alone, from a file of pairs to figures and report."""

from __future__ import annotations

import csv
import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import neva_tl as nv
from helpers.scripts import draw_figure
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.evaluation.judges.logprob import LogProbJudge
from neva_tl.plots.two_values import two_values_plot
from neva_tl.study import Study
from neva_tl.study.analyses.reopened_run import Run
from neva_tl.study.analyses.two_values import TwoConfig, default_pairs, kind_of, two_values

ANSWERS = {
    "thrift": ("Mend the {thing} and use it again.", "Throw the {thing} out and buy a new one."),
    "zeal": ("Start with the {thing} today.", "Leave the {thing} until some other day."),
    "calm": ("Sit by the {thing} and breathe.", "Shout at the {thing} and run about."),
    "welcome": ("Open the {thing} to every guest.", "Close the {thing} to strangers."),
}
WORDS = (
    "bridge mill farm harbour market garden school choir tower council forge bakery library theatre orchard boat road "
    "well stable shop field kitchen office club"
)
THINGS = WORDS.split()
#: The theory's order differs from that of the file.
THEORY = {
    "name": "household",
    "values": [
        {"name": "calm", "definition": "Quiet of mind."},
        {"name": "thrift", "definition": "Little waste.", "words": ["mend", "again"]},
        {"name": "welcome", "definition": "An open door."},
        {"name": "zeal", "definition": "Work without delay."},
    ],
}
SMALL: dict[str, Any] = {
    "validation": 4,
    "test": 6,
    "neutral": 2,
    "n_boot": 50,
    "rows_per_value": 10,
    "refine": 1,
    "targets": (0.2,),
    "max_new_tokens": 4,
    "text_values": 1,
    "text_prompts": 1,
}


@contextmanager
def no_numpy_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def write_pairs(path: Path, values: Sequence[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(["value", "pair_id", "pole", "text", "answer_start", "answer_end", "cluster"])
        for value in values:
            for thing in THINGS:
                question = f"What about the {thing}?"
                for pole, answer in zip("+-", ANSWERS[value], strict=True):
                    text = f"{question} {answer.format(thing=thing)}"
                    start = len(question) + 1
                    table.writerow([value, f"{value}/{thing}", pole, text, start, len(text), f"{value}/{thing}"])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own")
    write_pairs(root / "pairs.csv", list(ANSWERS))
    write_pairs(root / "thrift.csv", ["thrift"])
    (root / "household.json").write_text(json.dumps(THEORY))
    return root


@pytest.fixture(scope="module")
def own_run(tiny_model: Any, folder: Path) -> Path:
    study = Study(
        tiny_model,
        prompts=str(folder / "pairs.csv"),
        theory=str(folder / "household.json"),
        methods=("neva_shift", "caa", "role"),
        overrides=SMALL,
    )
    with no_numpy_warnings():
        return study.run(folder / "run").folder


@pytest.fixture(scope="module")
def one_run(tiny_model: Any, folder: Path) -> Path:
    study = Study(tiny_model, prompts=str(folder / "thrift.csv"), methods=("neva", "caa"), overrides=SMALL)
    with no_numpy_warnings():
        return study.run(folder / "one").folder


NAMES = ["calm", "thrift", "welcome", "zeal"]


def test_a_run_carries_its_theory(own_run: Path) -> None:
    manifest = json.loads((own_run / "manifest.json").read_text())
    assert manifest["values"] == NAMES == manifest["config"]["values"]
    assert [one["name"] for one in manifest["theory"]["values"]] == NAMES
    reopened = Run.open(own_run)
    assert reopened.theory().value("calm").definition == "Quiet of mind."
    assert nv.ActivationStats.load(own_run / "stats" / "stats").theory == reopened.theory()
    assert NeuronSet.load(own_run / "neurons" / "thrift").theory == reopened.theory()
    assert len(reopened.pairs())


def test_its_tables_figures_and_report_have_its_values(own_run: Path) -> None:
    leakage = nv.study.StudyResult(own_run).table("leakage")
    assert list(dict.fromkeys(leakage["measured"])) == NAMES
    figures = {path.stem for path in (own_run / "figures").glob("*.png")}
    assert "leakage_heatmap" in figures and "circle_plot" not in figures
    reasons = {
        entry["part"]: entry["reason"] for entry in json.loads((own_run / "results.json").read_text())["left_out"]
    }
    assert reasons["Circle test"] == "the theory household has no circle"
    assert reasons["NGL"] == "the theory household has no groups"
    page = (own_run / "report.html").read_text()
    assert all(name in page for name in NAMES) and "universalism" not in page
    assert "Circle test: the theory household has no circle." in page and "Schwartz" not in page
    assert "in the order of the theory household" in page
    results = json.loads((own_run / "results.json").read_text())
    assert results["values"] == NAMES
    assert all(entry["ngl"]["est"] is None for entry in results["methods"].values())


def test_a_run_goes_on_under_its_theory_alone(tiny_model: Any, own_run: Path, folder: Path) -> None:
    with pytest.raises(InputError):
        Study(tiny_model, prompts=str(folder / "pairs.csv"), methods=("neva_shift",), overrides=SMALL).run(own_run)


def test_one_concept_has_a_gain_and_nothing_to_leak_to(one_run: Path) -> None:
    results = json.loads((one_run / "results.json").read_text())
    assert results["values"] == ["thrift"]
    for entry in results["methods"].values():
        assert entry["gain"]["est"] is not None and entry["nlr"]["est"] is entry["ngl"]["est"] is None
    assert "no value besides the steered one was measured" in (one_run / "report.html").read_text()
    reasons = {entry["part"]: entry["reason"] for entry in results["left_out"]}
    assert reasons["Leakage, NLR"] == "one value is measured, so there is nothing to leak to"
    assert not {"NGL", "Circle test"} & set(reasons)


def test_one_concept_has_the_pictures_that_suit_one(one_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = {path.stem for path in (one_run / "figures").glob("*.png")}
    assert figures == {"dose_response", "layer_profile", "method_bars", "texts"}
    page = (one_run / "report.html").read_text()
    assert 'id="leakage"' not in page and "Figure " not in page
    for name in ("circle_plot", "leakage_heatmap", "overlap", "gain_leakage"):
        assert draw_figure(name, [str(one_run), "--skip-missing"]) == 0
        assert f"{name}: not drawn, " in capsys.readouterr().out
        assert draw_figure(name, [str(one_run)]) == 2
        assert capsys.readouterr().err.startswith(f"{name}: ")


def test_two_values_of_a_theory_without_relations(tiny_model: Any, own_run: Path, tmp_path: Path) -> None:
    run = Run.open(shutil.copytree(own_run, tmp_path / "run"))
    config = TwoConfig(pairs=(("Calm", "zeal"), ("thrift", "calm")), methods=("neva_shift",))
    with no_numpy_warnings():
        tables, numbers = two_values(run, tiny_model, config)
    assert tables["two_values"]["kind"].tolist() == ["unrelated"] * 2
    assert tables["two_values_kinds"]["pairs"].tolist() == [2] and numbers["pairs"][0] == ["calm", "zeal"]
    assert two_values_plot(tables["two_values_kinds"]).axes


def test_python_path_of_four_values(tiny_model: Any, folder: Path) -> None:
    pairs = nv.prompts.load(folder / "pairs.csv", theory=folder / "household.json")
    assert pairs.values == tuple(NAMES) and pairs.cap(4).theory == pairs.split("train").theory == pairs.theory
    assert pairs.hash != nv.prompts.load(folder / "pairs.csv").hash
    assert nv.prompts.load(folder / "pairs.csv").values == tuple(ANSWERS)
    with no_numpy_warnings():
        stats = nv.collect(tiny_model, pairs, split="train")
        neurons = nv.select(stats, "thrift", method="mean_shift", k=8)
        judge = LogProbJudge.fit(tiny_model, pairs)
        result = nv.leakage(tiny_model, {"thrift": nv.Shift(neurons)}, None, judge, n_boot=50, progress=False)
        result.show()
    assert list(result.matrix.columns) == NAMES and result.circle.rho.est is None and result.circle.p is None
    assert set(result.undefined) == {"ngl", "circle"} and "NGL" not in str(result) and "NLR" in str(result)
    assert stats.merge(stats).theory == pairs.theory == neurons.theory
    with pytest.raises(InputError, match="unknown value 'greed'"):
        stats.index("greed")


def test_python_path_of_one_concept(tiny_model: Any, folder: Path) -> None:
    pairs = nv.prompts.load(folder / "thrift.csv")
    with no_numpy_warnings():
        stats = nv.collect(tiny_model, pairs, split="train")
        neurons = nv.select(stats, "thrift", method="mean_shift", k=8)
        judge = LogProbJudge.fit(tiny_model, pairs)
        result = nv.leakage(tiny_model, {"thrift": nv.Shift(neurons)}, None, judge, n_boot=50, progress=False)
        for drawing in (stats, neurons, result, pairs):
            drawing.show()
        html = result._repr_html_()
    assert result.gain.est is not None and result.nlr.est is result.leakage.est is result.coupling.est is None
    assert "nothing to leak to" in str(result) and "nothing to leak to" in html
    assert not result.change_correlation().notna().to_numpy().any()


def test_pairs_of_values_follow_what_the_theory_says() -> None:
    theory = nv.ValueTheory.from_json(THEORY)
    assert kind_of("calm", "zeal", theory) == "unrelated"
    assert len(default_pairs(NAMES, theory, 2)) == 2
    with pytest.raises(InputError, match="two values are needed"):
        default_pairs(["calm"], theory, 2)
