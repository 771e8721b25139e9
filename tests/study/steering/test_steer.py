"""steer(): the path from pairs to a measured edit, checked against the model itself."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import neva_tl as nv
from neva_tl.core.auto import GRIDS
from neva_tl.core.errors import InputError
from neva_tl.evaluation.judges.logprob import LogProbJudge
from neva_tl.study import StudyConfig
from neva_tl.study.run import stages
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.steering.steer import TEST, VALIDATION, steered_edit

ROOT = Path(__file__).parents[3]
THRIFT = ROOT / "examples" / "thrift.csv"


@pytest.fixture(scope="module")
def thrift() -> Any:
    return nv.prompts.load(THRIFT)


@pytest.fixture(scope="module")
def result(stories3m: Any, thrift: Any, tmp_path_factory: pytest.TempPathFactory) -> nv.SteeringResult:
    return nv.steer(stories3m, thrift, folder=tmp_path_factory.mktemp("steer") / "run", progress=False)


def test_thrift_is_sixty_pairs_in_three_splits(thrift: Any) -> None:
    assert thrift.values == ("thrift",) and thrift.paired and len(thrift) == 120
    assert thrift.df.groupby("split")["pair_id"].nunique().to_dict() == {"train": 30, "validation": 12, "test": 18}


def test_the_gain_is_reached_and_holds_on_test_pairs(result: nv.SteeringResult) -> None:
    assert result.status == "reached" and result.validation_gain is not None and result.validation_gain >= 0.4
    assert result.gain.lo is not None and result.gain.lo > 0
    assert result.admissible and result.advice == ""
    assert "nothing to leak to" in result.card["leakage"] and result.leakage.est is None


def test_the_gain_is_that_of_the_judge_applied_by_hand(stories3m: Any, thrift: Any, result: nv.SteeringResult) -> None:
    judge = LogProbJudge.fit(stories3m, thrift, per_value=None)
    before = judge.measure(stories3m).scores[0]
    with nv.edit(stories3m, result.edit) as session:
        after = judge.measure(stories3m, session).scores[0]
    assert result.gain.est == pytest.approx(float(np.mean(after - before)), abs=1e-4)
    assert result.gain.n == len(before) <= TEST
    assert len(judge.only(split="validation").items.groups[0].clusters) <= VALIDATION


def test_the_control_is_the_role_prompt_on_the_same_pairs(
    stories3m: Any, thrift: Any, result: nv.SteeringResult
) -> None:
    judge = LogProbJudge.fit(stories3m, thrift, per_value=None, affirmation=False)
    role = nv.baselines.role_prompt(nv.baselines.Evidence(stories3m, nv.collect(stories3m, thrift), {}), "thrift")
    by_hand = nv.leakage(stories3m, {"thrift": role}, None, judge, n_boot=200, progress=False).gain
    assert result.control is not None and result.control.n == by_hand.n == result.gain.n
    assert result.control.est == pytest.approx(by_hand.est, abs=1e-4)
    assert result.measurable == (result.control.lo > 0)
    said = result.card["positive control"]
    assert said.startswith("the role prompt gains ") and f"thrift is {'' if result.measurable else 'not '}meas" in said


def test_the_share_pushed_the_wrong_way_is_that_of_the_items(
    stories3m: Any, thrift: Any, result: nv.SteeringResult
) -> None:
    judge = LogProbJudge.fit(stories3m, thrift, per_value=None, affirmation=False)
    before = judge.measure(stories3m).scores[0]
    with nv.edit(stories3m, result.edit) as session:
        after = judge.measure(stories3m, session).scores[0]
    assert result.wrong_way is not None and result.wrong_way.est == pytest.approx(float(np.mean(after < before)))
    assert "of the items" in result.card["pushed the wrong way"]


def test_results_of_earlier_versions_have_no_control(stories3m: Any, result: nv.SteeringResult, tmp_path: Path) -> None:
    folder = result.save(tmp_path / "old")
    stored = json.loads((folder / "steering.json").read_text())
    del stored["control"]
    stored["effects"] = [{k: x for k, x in row.items() if "wrong_way" not in k} for row in stored["effects"]]
    (folder / "steering.json").write_text(json.dumps(stored))
    old = nv.SteeringResult.load(folder, model=stories3m)
    assert old.control is old.measurable is old.wrong_way is None and old.gain == result.gain
    assert not {"positive control", "pushed the wrong way"} & set(old.card)


def test_the_second_call_repeats_nothing(
    stories3m: Any, thrift: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = nv.steer(stories3m, thrift, folder=tmp_path / "run", progress=False)

    def forbidden(*args: Any, **options: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("neva_tl.study.run.stages.collect", forbidden)
    monkeypatch.setattr("neva_tl.study.run.stages.margin_effects", forbidden)
    monkeypatch.setattr("neva_tl.study.run.cell_runner.CellRunner.dose_points", forbidden)
    again = nv.steer(stories3m, thrift, folder=tmp_path / "run", progress=False)
    assert str(again) == str(first) and again.gain == first.gain


def test_an_unreachable_gain_is_an_answer(stories3m: Any, thrift: Any, tmp_path: Path) -> None:
    result = nv.steer(stories3m, thrift, gain=500.0, method="neva_shift", folder=tmp_path / "run", progress=False)
    assert result.status == "unreached" and "out of reach" in result.advice and "more pairs" in result.advice
    good = result.curve[result.curve["admissible"]]
    assert result.dose == good.loc[good["gain"].idxmax(), "dose"]
    assert result.edit.dose == result.dose


def test_saved_and_loaded(stories3m: Any, result: nv.SteeringResult, tmp_path: Path) -> None:
    folder = result.save(tmp_path / "thrift")
    again = nv.SteeringResult.load(folder, model=stories3m)
    assert str(again) == str(result) and repr(again) == repr(result) and again.control == result.control
    pd.testing.assert_frame_equal(again.curve, result.curve)
    assert again.generate("Tom has ten coins. He") == result.generate("Tom has ten coins. He")
    assert "thrift" in (folder / "README.md").read_text()


def test_texts_are_those_of_an_edit_block(stories3m: Any, result: nv.SteeringResult) -> None:
    texts = result.generate("Tom has ten coins. He", max_new_tokens=12)
    plain = nv.generate(stories3m, ["Tom has ten coins. He"], max_new_tokens=12)
    with nv.edit(stories3m, result.edit):
        edited = nv.generate(stories3m, ["Tom has ten coins. He"], max_new_tokens=12)
    assert [texts.unedited, texts.edited] == [*plain, *edited]
    assert texts.edited != texts.unedited


def test_the_figure_shows_the_numbers(result: nv.SteeringResult) -> None:
    figure = result.show()
    left, right = figure.axes
    drawn = np.concatenate([line.get_ydata() for line in left.lines if len(line.get_ydata()) == len(result.curve)])
    assert set(np.round(result.curve["gain"], 9)) <= set(np.round(drawn.astype(float), 9))
    points = [float(line.get_xdata()[0]) for line in right.lines if len(line.get_xdata()) == 1]
    assert points == pytest.approx(result.effects["d"].tolist())


def test_python_and_command_line_agree(shared_dir: Path, result: nv.SteeringResult, call: Any, tmp_path: Path) -> None:
    out = tmp_path / "thrift"
    status, text, err = call("steer", shared_dir / "models" / "stories3M", THRIFT, "--out", out)
    assert status == 0 and str(out) in err
    shown = {line.split("  ")[0]: line for line in text.splitlines()}
    expected = {line.split("  ")[0]: line for line in str(result).splitlines()}
    assert shown == expected
    status, text, _ = call("generate", "Tom has ten coins. He", "--edit", out, "--tokens", 8, "--json")
    assert status == 0 and '"thrift"' in text
    status, text, err = call(
        "chat", "--edit", out, "--tokens", 6, typed="Tom has ten coins. He\n/off\n/dose 2\n/dose x\n/quit\n"
    )
    assert status == 0 and text.strip() and "unedited" in err and "a dose is a number" in err


def test_every_road_has_the_same_neurons_scope_gate_and_doses(
    stories3m: Any, thrift: Any, shared_dir: Path, result: nv.SteeringResult, call: Any, tmp_path: Path
) -> None:
    names = ["layer", "neuron", "score"]
    expected = result.neurons.df[names]

    # the documented path in Python
    stats = nv.collect(stories3m, thrift, samples=True)
    neurons = nv.select(stats, "thrift")
    pd.testing.assert_frame_equal(neurons.df[names], expected, check_exact=True)
    assert result.dose is not None
    edit = nv.fit_context(stats, neurons, dose=result.dose).with_gate(nv.auto_gate(stories3m, thrift))
    assert (edit.scope, edit.gate) == (result.edit.scope, result.edit.gate) == ("generated", None)
    for ours, theirs in zip(edit.probes, result.edit.probes, strict=True):
        np.testing.assert_array_equal(ours.weight, theirs.weight)
    assert {2.0, 4.0} <= set(result.curve["dose"]) and set(GRIDS[edit.unit][:2]) == {2.0, 4.0}

    # a study
    config = StudyConfig(model=str(shared_dir / "models" / "stories3M"), prompts=str(THRIFT)).resolved(thrift)
    studied = stages.selected(RunFolder(tmp_path), stories3m, stats, config, progress=False)["thrift"]
    pd.testing.assert_frame_equal(studied.df[names], expected, check_exact=True)
    assert (config.scope, config.gate, config.pooling) == (edit.scope, "none", stats.pooling)

    # the commands
    where = ("--model", shared_dir / "models" / "stories3M", "--prompts", THRIFT)
    status, text, err = call("select", "--value", "thrift", *where, "--json")
    assert status == 0 and f"auto: {config.decisions}" in err
    rows = pd.DataFrame(json.loads(text))
    pd.testing.assert_frame_equal(rows[["layer", "neuron"]], expected[["layer", "neuron"]])
    method, generated = steered_edit(stories3m, thrift, dose=result.dose)
    assert method == result.method == "neva" and generated.scope == edit.scope and generated.gate is None
    pd.testing.assert_frame_equal(generated.neurons.df[names], expected, check_exact=True)
    assert result.settings["selection"] == dict(config.selection) and result.settings["pooling"] == "mean"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"value": "nonsense"}, "nonsense"),
        ({"method": "role"}, "no dose"),
        ({"method": "magic"}, "unknown method"),
        ({"gain": -1.0}, "above 0"),
        ({"selector": "magic"}, "unknown selector"),
        ({"scope": "some"}, "scope"),
    ],
)
def test_bad_options_are_one_line(stories3m: Any, thrift: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        nv.steer(stories3m, thrift, progress=False, **options)
    assert "\n" not in str(caught.value)


def test_several_concepts_need_a_name(stories3m: Any, tmp_path: Path) -> None:
    rows = list(csv.DictReader(THRIFT.open()))
    file = tmp_path / "two.csv"
    with file.open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["value", "prompt", "chosen", "rejected"])
        table.writerows([[("a", "b")[i % 2], row["prompt"], row["plus"], row["minus"]] for i, row in enumerate(rows)])
    with pytest.raises(InputError, match="name the value"):
        nv.steer(stories3m, file, progress=False)
    result = nv.steer(stories3m, file, "a", gain=0.2, progress=False)
    assert list(result.effects["measured"]) == ["a", "b"] and result.leakage.est is not None


def test_steering_inside_an_edit_block_is_refused(stories3m: Any, thrift: Any, result: nv.SteeringResult) -> None:
    with nv.edit(stories3m, result.edit), pytest.raises(InputError, match="hooks"):
        nv.steer(stories3m, thrift, progress=False)
