"""A whole study on a tiny random chat model: what it writes, that it resumes, and that resuming changes nothing."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.results_schema import check_results
from helpers.written_tables import check_dictionary
from neva_tl.core.errors import InputError, WorkError
from neva_tl.study import Study, StudyResult
from neva_tl.study.run import tables
from neva_tl.study.run.scorers import Scorer
from neva_tl.study.run.workspace import conditions

STEERED = ("power", "tradition")
METHODS = ("neva_shift", "caa", "random", "role")


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than everything else in these small studies."""
    monkeypatch.setattr(tables, "_figures", lambda cells, jobs: None)


def stamps(folder: Path) -> dict[str, int]:
    return {str(f.relative_to(folder)): f.stat().st_mtime_ns for f in folder.rglob("*") if f.is_file()}


def test_results_follow_the_design(finished: StudyResult) -> None:
    results = check_results(finished.folder, STEERED, METHODS)
    assert check_dictionary(finished.folder) > 10
    assert results["judge"] == "logprob" and "SD" in results["unit"]
    assert all(results["neurons"][name]["k"] > 0 for name in STEERED)
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    assert '"finished": true' in html.unescape(page) and '"finished": false' not in html.unescape(page)
    assert finished.results == results and "neva_shift" in finished.text() and "<table" in finished._repr_html_()


def test_no_table_has_a_column_that_nothing_fills(finished: StudyResult) -> None:
    """Measures may be undefined (NGL, NLR); a column that no step of a study writes is not there."""
    undefined = re.compile(r"(ngl|nlr|circle|target_gain|acc|leak_value)(_.*)?|worst_(lo|hi)|leakage")
    for path in sorted((finished.folder / "tables").glob("*.parquet")):
        table = pd.read_parquet(path)
        empty = [name for name in table if table[name].isna().all() and not undefined.fullmatch(name)]
        assert not empty, (path.stem, empty)


def test_reported_numbers_are_those_of_the_items(finished: StudyResult) -> None:
    """Gain and leakage matrix from the raw item scores, by hand."""
    from neva_tl.study.run.run_folder import RunFolder

    store = RunFolder(finished.folder)
    base = store.read_table("cells/base.items").query("kind == 'score'")
    leakage = finished.table("leakage").set_index(["method", "steered", "measured"])
    assert len(leakage) == len(METHODS) * 2 * 2
    for method in METHODS:
        entry = finished.results["methods"][method]
        gains = []
        for value in STEERED:
            items = store.read_table(f"cells/measure/{method}/{value}@{entry['target_gain']}.items")
            edited = items.query("kind == 'score'")
            for measured in STEERED:
                before = base[base["measured"] == measured].sort_values("item")["score"].to_numpy()
                after = edited[edited["measured"] == measured].sort_values("item")["score"].to_numpy()
                assert len(before) == len(after) == 6
                row = leakage.loc[(method, value, measured)]
                assert row["d"] == pytest.approx((after - before).mean()) and row["n"] == 6
                if measured == value:
                    gains.append((after - before).mean())
                    assert entry["per_value"][value]["gain"]["est"] == pytest.approx(gains[-1])
        assert entry["gain"]["est"] == pytest.approx(np.mean(gains))
    ablation = finished.table("ablation")
    assert set(map(tuple, ablation[["value", "operation"]].to_numpy())) == {
        (v, o) for v in STEERED for o in ("zero", "mean")
    }
    assert np.allclose(ablation["change"], ablation["ablated"] - ablation["base"])


def test_the_placebo_takes_the_doses_of_what_it_stands_beside(finished: StudyResult) -> None:
    methods = finished.results["methods"]
    for value in STEERED:
        ours, placebo = methods["neva_shift"]["per_value"][value], methods["random"]["per_value"][value]
        assert placebo["dose"] == ours["dose"]
        assert placebo["status"] == "dose of neva_shift" and ours["status"] in ("reached", "unreached")
        assert methods["role"]["per_value"][value]["dose"] is None
    assert methods["random"]["reached"] == "-" and methods["role"]["reached"] == "own gain"
    searched = {path.name for path in (finished.folder / "cells" / "dose").iterdir()}
    assert searched == {"neva_shift", "caa"}
    assert set(finished.table("dose")["method"]) == searched
    assert conditions(("neva", "role", "random"), (0.2, 0.4)) == (
        ("neva", 0.2),
        ("neva", 0.4),
        ("role", None),
        ("random", 0.2),
        ("random", 0.4),
    )


def test_doses_come_from_validation_prompts_and_are_admissible(finished: StudyResult) -> None:
    doses = finished.table("dose")
    assert set(doses["split"]) == {"validation"}
    for method in ("neva_shift", "caa"):
        for value, cell in finished.results["methods"][method]["per_value"].items():
            tried = doses[(doses["method"] == method) & (doses["steered"] == value)]
            chosen = tried[np.isclose(tried["dose"], cell["dose"])]
            assert len(chosen) == 1 and bool(chosen["admissible"].iloc[0])
            assert (cell["status"] == "reached") == bool(chosen["gain"].iloc[0] >= 0.2)


def test_example_texts_stand_beside_the_unedited_ones(finished: StudyResult) -> None:
    texts = finished.table("generations")
    assert set(texts["method"]) == {"unedited", "neva_shift", "caa", "role"}
    assert texts.groupby("method")["prompt"].agg(tuple).nunique() == 1


def test_figures_are_drawn_from_the_tables(finished: StudyResult, tmp_path: Path) -> None:
    from neva_tl.plots.files import write_figures

    folder = Path(shutil.copytree(finished.folder, tmp_path / "drawn"))
    written = write_figures(folder)
    assert written and all(Path(path).stat().st_size > 1000 for path in written)
    names = {path.stem for path in (folder / "figures").iterdir()}
    for kind in ("pdf", "png"):
        assert {path.stem for path in (folder / "figures").glob(f"*.{kind}")} == names


def test_a_second_call_only_reads(
    finished: StudyResult, small_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scorer, "observe", lambda *args, **kwargs: pytest.fail("measured again"))
    before = stamps(finished.folder)
    again = small_study().run(finished.folder)
    assert again.results == finished.results
    after = stamps(finished.folder)
    assert {name for name in after if after[name] != before.get(name)} <= {"manifest.json"}
    assert json.loads((again.folder / "manifest.json").read_text())["finished"] is True


def test_a_killed_study_resumes_to_the_same_results(
    finished: StudyResult,
    small_study: Callable[..., Study],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_figures: None,
) -> None:
    """Killed while searching doses, and again while measuring; what was finished by then is not measured again."""
    observe = Scorer.observe
    left = {"validation": 12, "test": 4}

    def fragile(self: Scorer, edits: Any, split: str, *args: Any) -> Any:
        left[split] -= 1
        if left[split] < 0:
            raise KeyboardInterrupt
        return observe(self, edits, split, *args)

    monkeypatch.setattr(Scorer, "observe", fragile)
    folder = tmp_path / "killed"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            small_study().run(folder)
        assert json.loads((folder / "manifest.json").read_text())["finished"] is False
        assert not (folder / "results.json").exists() and not (folder / "report.html").exists()
        left["validation"] = 10**9
    done = {name: stamp for name, stamp in stamps(folder).items() if name.startswith(("cells/", "neurons/", "stats/"))}
    assert any(name.startswith("cells/dose/") for name in done) and any("measure" in name for name in done)
    left["test"] = 10**9
    resumed = small_study().run(folder)
    after = stamps(folder)
    assert {name for name, stamp in done.items() if after[name] != stamp} == set()
    assert (folder / "results.json").read_bytes() == (finished.folder / "results.json").read_bytes()
    for table in ("leakage", "methods", "dose", "values", "ablation", "effects", "circuit", "generations"):
        ours, theirs = (run.folder / "tables" / f"{table}.csv" for run in (resumed, finished))
        assert ours.read_bytes() == theirs.read_bytes(), table
    manifests = [json.loads((run.folder / "manifest.json").read_text()) for run in (resumed, finished)]
    for manifest in manifests:
        assert manifest.pop("wall_time_s") > 0
    assert manifests[0] == manifests[1]


def test_further_methods_are_taken_beside_those_there(
    finished: StudyResult, small_study: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells that are there stay as they are; methods that are there already ask for nothing."""
    monkeypatch.setattr(tables, "_figures", lambda cells, jobs: None)
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    before = stamps(folder)
    small_study(methods=("caa",)).run(folder)
    assert {name: stamp for name, stamp in stamps(folder).items() if name != "manifest.json"} == {
        name: stamp for name, stamp in before.items() if name != "manifest.json"
    }
    known = finished.table("methods")
    table = small_study(methods=("caa_projected", "caa")).run(folder).table("methods")
    assert list(table["method"]) == [*known["method"], "caa_projected"]
    assert json.loads((folder / "manifest.json").read_text())["config"]["methods"] == list(table["method"])
    cells = {name: stamp for name, stamp in before.items() if name.startswith(("cells/", "neurons/", "stats/"))}
    assert cells.items() <= stamps(folder).items()


def test_a_run_killed_while_it_took_a_further_method_is_not_done(
    finished: StudyResult,
    small_study: Callable[..., Study],
    tmp_path: Path,
    no_figures: None,
    killed_after: Callable[[int], None],
) -> None:
    """The tables and the report of the former methods lie there: the method is measured all the same."""
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    took = json.loads((folder / "manifest.json").read_text())["wall_time_s"]
    killed_after(2)
    with pytest.raises(KeyboardInterrupt):
        small_study(methods=("caa_projected",)).run(folder)
    stopped = json.loads((folder / "manifest.json").read_text())
    assert stopped["finished"] is False and stopped["wall_time_s"] > took
    killed_after(10**9)
    run = small_study(methods=("caa_projected",)).run(folder)
    assert list(run.table("methods")["method"])[-1] == "caa_projected"
    assert "caa_projected" in set(run.table("generations")["method"])
    assert json.loads((folder / "manifest.json").read_text())["finished"] is True


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"k": 3}, "k was None, now 3"),
        ({"overrides": {"test": 5}}, "overrides was"),
    ],
)
def test_other_options_need_another_folder(
    finished: StudyResult, small_study: Callable[..., Study], options: dict[str, Any], reason: str
) -> None:
    before = stamps(finished.folder)
    with pytest.raises(InputError, match=reason):
        small_study(**options).run(finished.folder)
    assert stamps(finished.folder) == before


def test_other_prompts_need_another_folder(
    finished: StudyResult, small_study: Callable[..., Study], pairs_file: Path, tmp_path: Path
) -> None:
    """The same file name with another text in it is another study."""
    changed = tmp_path / pairs_file.name
    changed.write_text(pairs_file.read_text().replace("and rule.", "and RULE."))
    with pytest.raises(InputError, match="prompts was"):
        small_study(prompts=str(changed)).run(finished.folder)


def test_values_that_the_prompts_lack_are_left_out(
    finished: StudyResult, small_study: Callable[..., Study], tmp_path: Path
) -> None:
    from neva_tl.activations import ActivationStats
    from neva_tl.study.run.stages import steerable

    stats = ActivationStats.load(finished.folder / "stats" / "stats")
    config = small_study(values=("hedonism", "power")).config
    assert steerable(config, stats).values == ("power",)
    with pytest.raises(InputError, match="the prompts hold no hedonism: they cover power, tradition"):
        small_study(values=("hedonism",)).run(tmp_path / "none")


@pytest.mark.filterwarnings("ignore")
def test_no_neurons_is_one_clear_line(small_study: Callable[..., Study], tmp_path: Path) -> None:
    """Two pairs cannot carry a test over all neurons."""
    with pytest.raises(WorkError, match="no neuron of chatty was selected for power, tradition"):
        small_study(selector="effect_size", overrides={"rows_per_value": 2}).run(tmp_path / "none")


def test_rows_are_capped_by_whole_pairs(pairs_file: Path) -> None:
    from neva_tl import prompts
    from neva_tl.study.run.stages import limit_rows

    pairs = prompts.load(str(pairs_file))
    capped = limit_rows(pairs, 5)
    train = capped.split("train").df
    assert train.groupby(["value", "pole"]).size().eq(5).all() and train.groupby("pair_id").size().eq(2).all()
    for split in ("validation", "test"):
        assert capped.split(split).hash == pairs.split(split).hash
    assert limit_rows(pairs, 0) is pairs
    shuffled = type(pairs)(pairs.df.sample(frac=1, random_state=np.random.default_rng(0)), pairs.name)
    assert set(limit_rows(shuffled, 5).df["text"]) == set(capped.df["text"])


def test_a_finished_folder_can_be_moved(finished: StudyResult, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(finished.folder, tmp_path / "elsewhere"))
    assert StudyResult(moved).results == finished.results
    for file in moved.rglob("*.json"):
        assert str(finished.folder) not in file.read_text()
