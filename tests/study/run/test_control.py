"""Positive control: the role prompt's gain by hand, and a study whose role prompt does nothing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.results_schema import check_results
from helpers.written_cells import items, study
from neva_tl.core.method_records import METHODS
from neva_tl.editing import Shift
from neva_tl.study import Study, StudyResult
from neva_tl.study.run import tables
from neva_tl.study.run.comparison import stored_responses
from neva_tl.study.run.control import Controls, control_cell, read_controls
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.scorers import Scorer


def read(store: RunFolder, *values: str, judge: str = "logprob") -> Controls | None:
    return read_controls(store, values, judge=judge, unit="SD", seed=0, n_boot=100)


@pytest.fixture
def store(tmp_path: Path) -> RunFolder:
    """Role prompts that raise power by .3, lower tradition by .1, and move benevolence by noise alone."""
    store = study(tmp_path / "run", {"neva": ("power", "tradition")}, relevance=False)
    noise = np.random.default_rng(1).normal(0, 1, 12)
    for value, shift in (("power", (0.3, 0, 0)), ("tradition", (0, -0.1, 0)), ("benevolence", (0, 0, 0))):
        frame = items(shift)
        if value == "benevolence":
            frame.loc[frame["measured"] == value, "score"] += noise - noise.mean()
        store.write_table(f"{control_cell(value)}.items", frame, csv=False)
        store.write_json(f"{control_cell(value)}.json", {})
    return store


def test_controls_by_hand(store: RunFolder) -> None:
    controls = read(store, "power", "tradition", "benevolence")
    assert controls is not None and controls.measurable == ("power",)
    table = controls.table().set_index("value")
    assert table.index.tolist() == ["power", "tradition", "benevolence", "all"]
    assert table["est"].tolist() == pytest.approx([0.3, -0.1, 0.0, 0.2 / 3])
    assert table.loc["power", ["lo", "hi"]].tolist() == pytest.approx([0.3, 0.3])  # every item moves by .3
    assert table.loc["benevolence", "lo"] < 0 < table.loc["benevolence", "hi"]
    assert table["measurable"].tolist() == [True, False, False, False]
    assert set(table["judge"]) == {"logprob"} and set(table["unit"]) == {"SD"} and table.loc["power", "n"] == 12
    entry = controls.to_json()
    assert entry["not_measurable"] == ["tradition", "benevolence"] and entry["method"] == "role"
    assert entry["values"]["tradition"]["est"] == pytest.approx(-0.1)


def test_a_mean_over_the_measurable_values_by_hand(store: RunFolder) -> None:
    """The edit gains .5 on both values: .5 on the measurable one, and no second mean where all or none are measurable."""
    edited = stored_responses(store, "neva", 0.4, ["power", "tradition"])
    assert edited is not None
    edited.edited[1][1] += 1  # towards tradition: 1.5 on tradition
    controls = read(store, "power", "tradition")
    assert controls is not None
    mean = controls.gain_of(edited, seed=0, n_boot=50)
    assert mean is not None and mean.est == pytest.approx(0.5)
    whole = edited.effects()
    assert (whole[0, 0], whole[1, 1]) == (pytest.approx(0.5), pytest.approx(1.5))
    assert controls.gain_of(edited.select(["power"]), seed=0, n_boot=50) is None
    assert controls.gain_of(edited.select(["tradition"]), seed=0, n_boot=50) is None


def test_a_control_that_was_left_out_is_not_measurable(store: RunFolder) -> None:
    (store.root / f"{control_cell('power')}.json").unlink()
    controls = read(store, "power", "tradition")
    assert controls is not None and controls.measurable == ()
    assert controls.gains["power"].est is None and controls.mean.est == pytest.approx(-0.1)
    nothing = read(store, "hedonism")
    assert nothing is not None and nothing.table()["est"].isna().all() and not nothing.table()["measurable"].any()


def test_the_exact_judge_needs_no_control(store: RunFolder) -> None:
    assert read(store, "power", judge="exact") is None


@pytest.fixture(scope="module")
def mute(small_study: Callable[..., Study], tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """A study without the method `role`, whose role prompt does nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_figures", lambda cells, jobs: None)
        patch.setitem(METHODS, "role", replace(METHODS["role"], build=nothing))
        return small_study(methods=("neva_shift",)).run(tmp_path_factory.mktemp("mute") / "run", workers=1)


def nothing(evidence: Any, value: str) -> Shift:
    """An edit at dose 0 in place of the role prompt."""
    return Shift(evidence.of(value), dose=0.0, scope=evidence.scope)


def test_a_role_prompt_that_does_nothing_makes_every_value_not_measurable(mute: StudyResult) -> None:
    results = check_results(mute.folder, ("power", "tradition"), ("neva_shift",))
    assert results["controls"]["not_measurable"] == ["power", "tradition"] and "role" not in results["methods"]
    assert results["controls"]["all"] | {"n": 0} == {"est": 0.0, "lo": 0.0, "hi": 0.0, "n": 0}
    assert "gain_measurable" not in results["methods"]["neva_shift"]
    controls = mute.table("controls").set_index("value")
    assert controls["est"].tolist() == [0.0] * 3 and not controls["measurable"].any()
    line = (
        "positive control: the role prompt gains 0.00 [0.00, 0.00] (mean of 2 values); not measurable by logprob: all 2"
    )
    assert line in mute.text() and mute.parts()[2] in mute.text() and "positive control" in mute._repr_html_()
    assert "wrong way" in mute.text().splitlines()[1]
    page = (mute.folder / "report.html").read_text()
    assert "<b>Not measurable by logprob: all 2 values" in page[page.index('id="methods"') : page.index('id="control"')]
    assert 'id="control"' in page and "not measurable by logprob: all 2 values (power, tradition)" in page


def test_the_control_is_the_cell_of_the_method(
    mute: StudyResult, small_study: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study that takes the method `role` later measures nothing, and shows the same gains."""
    folder = Path(shutil.copytree(mute.folder, tmp_path / "run"))
    monkeypatch.setattr(tables, "_figures", lambda cells, jobs: None)
    monkeypatch.setattr(Scorer, "observe", lambda *args, **options: pytest.fail("measured again"))
    again = small_study(methods=("role",)).run(folder, workers=1).results
    for value, gain in again["controls"]["values"].items():
        assert again["methods"]["role"]["per_value"][value]["gain"] == gain
        assert again["methods"]["role"]["per_value"][value]["wrong_way"]["est"] == 0.5  # every item is a tie
    assert again["controls"] == mute.results["controls"]


def test_a_study_with_the_method_role_shows_its_gains(finished: StudyResult) -> None:
    results = finished.results
    role = results["methods"]["role"]
    assert results["controls"]["all"] == role["gain"]
    assert results["controls"]["values"] == {name: cell["gain"] for name, cell in role["per_value"].items()}
    low = {name: cell["gain"]["lo"] for name, cell in role["per_value"].items()}
    assert results["controls"]["not_measurable"] == [name for name in low if low[name] <= 0]


def test_shares_of_a_study_are_those_of_its_items(finished: StudyResult) -> None:
    store = RunFolder(finished.folder)
    base = store.read_table("cells/base.items").query("kind == 'score'").set_index(["measured", "item"])["score"]
    for row in finished.table("values").to_dict("records"):
        target = None if pd.isna(row["target_gain"]) else row["target_gain"]
        cell = store.read_table(f"cells/measure/{row['method']}/{row['steered']}@{target}.items")
        edited = cell.query("kind == 'score'").set_index(["measured", "item"])["score"]
        change = (edited - base).loc[row["steered"]]
        assert row["wrong_way"] == pytest.approx(((change < 0) + 0.5 * (change == 0)).mean())
    shares = finished.table("values").groupby("method")["wrong_way"].mean()
    assert finished.table("methods").set_index("method")["wrong_way"].to_dict() == pytest.approx(shares.to_dict())


def test_a_run_of_an_earlier_version_is_still_read(finished: StudyResult, tmp_path: Path) -> None:
    """Without the new table, fields and columns: the controls are those of its method `role`."""
    from neva_tl.study.report.write import build_context, write_report

    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    (folder / "neva-ledger.jsonl").unlink()
    (folder / "tables" / "controls.parquet").unlink()
    for name in ("methods", "values", "leakage"):
        table = pd.read_parquet(folder / "tables" / f"{name}.parquet")
        table = table[[column for column in table if not column.startswith(("wrong_way", "gain_measurable"))]]
        table.to_parquet(folder / "tables" / f"{name}.parquet")
    results = json.loads((folder / "results.json").read_text())
    stored = results.pop("controls")
    for entry in results["methods"].values():
        for holder in (entry, *entry["per_value"].values()):
            holder.pop("wrong_way")
    (folder / "results.json").write_text(json.dumps(results))
    old = StudyResult(folder)
    assert "positive control: the role prompt gains" in old.text() and "wrong way" not in old.text()
    page = write_report(folder).read_text()
    assert 'id="control"' not in page and "Positive control: the role prompt gains" in re.sub("<[^>]*>", "", page)
    if stored["not_measurable"]:
        assert "not measurable by logprob: " in page
    results["methods"].pop("role")
    (folder / "results.json").write_text(json.dumps(results))
    assert "positive control" not in StudyResult(folder).text()
    reason = "this run did not measure what a role prompt does to the scores of logprob"
    assert any(reason in line for line in build_context(results, None, {})["missing"])
