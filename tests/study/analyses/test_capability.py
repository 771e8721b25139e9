"""Edits put together again from a run folder, and public sets before and after them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import neva_tl as nv
from neva_tl.core.errors import InputError
from neva_tl.core.method_records import find_method
from neva_tl.evaluation.benchmarks import Benchmark, Item, compare_capability, score_benchmark
from neva_tl.evaluation.conditions.capability import capability
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.study import StudyResult
from neva_tl.study.analyses import capability as module
from neva_tl.study.analyses.capability import COLUMNS, run_capability
from neva_tl.study.analyses.reopened_run import Run
from neva_tl.study.run.cost_meter import CostMeter
from neva_tl.study.run.run_folder import RunFolder


def choices(n: int = 24) -> Benchmark:
    words = ("bread", "coins", "a tower", "the river", "danger")
    items = [
        Item(str(i), str(i), (f"The king counts {i} and",) * 2, (f" {words[i % 5]}", f" {words[(i + 2) % 5]}"), i % 2)
        for i in range(n)
    ]
    return Benchmark("choices", "choice", tuple(items))


def texts() -> Benchmark:
    found = tuple(f"The old mill has {word} wheels." for word in ("two", "six", "ten", "no", "new"))
    return Benchmark("texts", "text", tuple(Item(str(i), str(i), ("",), (x,)) for i, x in enumerate(found)))


@pytest.fixture(scope="module")
def run(finished: StudyResult) -> Run:
    return Run.open(finished.folder)


def test_edits_are_those_the_run_measured(run: Run, tiny_model: Any) -> None:
    """Perplexity and KL under the rebuilt edit are the figures that the run wrote down, for every method and value."""
    cost_meter = CostMeter(tiny_model, run.config, run.config.spending())
    edits = run.edits(tiny_model, run.methods())
    assert {(one.method, one.value) for one in edits} == {(m, v) for m in run.methods() for v in ("power", "tradition")}
    for one in edits:
        written = run.store.read_json(f"cells/measure/{one.method}/{one.value}@{one.target}.json")
        found = capability(tiny_model, (one.edit,), cost_meter.texts)
        assert found == pytest.approx(written["capability"], rel=1e-5)
        lender = find_method(one.method).dose_of
        assert (one.dose, one.status) == (written["dose"], f"dose of {lender}" if lender else written["status"])
        assert one.target == (None if one.method == "role" else 0.2)


def test_table(run: Run, tiny_model: Any, tmp_path: Path) -> None:
    store = RunFolder(tmp_path)
    sets = [choices(), texts()]
    table = run_capability(store, run, tiny_model, sets, ("neva_shift", "role"))
    assert tuple(table.columns) == COLUMNS
    # two methods, two values and their mean, three and two metrics
    assert len(table) == 2 * 3 * (3 + 2)
    assert set(table["value"]) == {"power", "tradition", "mean of 2 values"}
    (one,) = run.edits(tiny_model, ("neva_shift",), ("tradition",))
    base, edited = score_benchmark(tiny_model, sets[0]), score_benchmark(tiny_model, sets[0], one.edit)
    expected = compare_capability(base, edited).df.set_index("metric")
    own = table[(table["method"] == "neva_shift") & (table["value"] == "tradition") & (table["set"] == "choices")]
    for column in ("base", "edited", "difference", "lo", "hi", "p", "lost", "won", "n"):
        assert own.set_index("metric")[column].to_numpy(float) == pytest.approx(expected[column].to_numpy(float))
    assert own["dose"].unique().tolist() == [one.dose]
    # the mean over values is the mean of their rows
    parts = table[table["value"].isin(("power", "tradition"))].groupby(["method", "set", "metric"])["difference"].mean()
    means = table[table["value"].str.startswith("mean")].set_index(["method", "set", "metric"])["difference"]
    assert means.sort_index().to_numpy() == pytest.approx(parts.sort_index().to_numpy())
    assert table[table["value"].str.startswith("mean")]["p"].isna().all()


def test_nothing_is_scored_twice(run: Run, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunFolder(tmp_path)
    first = run_capability(store, run, tiny_model, [choices()], ("caa",), ("power",))

    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("scored again")

    monkeypatch.setattr(module, "score_benchmark", refuse)
    pd.testing.assert_frame_equal(run_capability(store, run, tiny_model, [choices()], ("caa",), ("power",)), first)
    for changed in ({"span": "answer"}, {}):  # another span, another set: another score
        sets = [choices()] if changed else [choices(20)]
        with pytest.raises(AssertionError, match="scored again"):
            run_capability(store, run, tiny_model, sets, ("caa",), ("power",), **changed)  # type: ignore[arg-type]


def test_the_run_folder_is_only_read(run: Run, tiny_model: Any, tmp_path: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in run.store.root.rglob("*")}
    run_capability(RunFolder(tmp_path / "out"), run, tiny_model, [texts()], ("caa", "random"), ("power",))
    assert {file: file.stat().st_mtime_ns for file in run.store.root.rglob("*")} == before


def test_requests_that_the_run_cannot_serve(run: Run, tiny_model: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no method 'neva': it has neva_shift"):
        run.edits(tiny_model, ("neva",))
    with pytest.raises(InputError, match="no value 'hedonism'"):
        run.edits(tiny_model, ("caa",), ("hedonism",))
    with pytest.raises(InputError, match=r"matched gains at 0\.2, not at 0\.9"):
        run.edits(tiny_model, ("caa",), target=0.9)
    with pytest.raises(InputError, match="not a run folder"):
        Run.open(tmp_path)
    with pytest.raises(InputError, match="other weights"):
        run.load_model(str(tiny_checkpoint(tmp_path / "other", chat=True, n_ctx=1024, seed=5)))
    copy = tmp_path / "copy"
    shutil.copytree(run.store.root, copy)
    (copy / "stats" / "samples.npy").unlink()
    with pytest.raises(InputError, match=r"lacks stats/samples\.npy"):
        Run.open(copy).edits(tiny_model, ("caa",))
    (copy / "results.json").unlink()
    with pytest.raises(InputError, match="not finished"):
        Run.open(copy)


def test_the_runs_model_may_have_to_be_named(run: Run, checkpoint: Path) -> None:
    assert run.load_model(str(checkpoint)) is not None
    with pytest.raises(InputError, match="--model"):
        run.load_model()  # the manifest knows a folder's name only


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    rows = [{"query": f"The mill has {i}", "choices": ["wheels", "a river"], "gold": i % 2} for i in range(12)]
    (root / "multiple_choice").mkdir()
    (root / "multiple_choice" / "mine.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return root


def cli(capsys: pytest.CaptureFixture[str], *argv: Any) -> tuple[int, str, str]:
    from neva_tl.cli import main as command

    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        command.main(["capability", *(str(arg) for arg in argv)])
    captured = capsys.readouterr()
    return int(caught.value.code or 0), captured.out, captured.err


def test_command_unedited(capsys: pytest.CaptureFixture[str], checkpoint: Path, data: Path, tmp_path: Path) -> None:
    status, out, err = cli(capsys, "--model", checkpoint, "--data", data, "--limit", 8, "--out", tmp_path, "--json")
    assert status == 0 and "written:" in err
    rows = json.loads(out)
    assert [(row["set"], row["metric"], row["n"]) for row in rows] == [
        ("mine", m, 8) for m in ("acc", "acc_norm", "acc_token")
    ]
    assert (tmp_path / "capability.parquet").is_file() and (tmp_path / "capability.csv").is_file()


def test_command_edited(
    capsys: pytest.CaptureFixture[str], run: Run, checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    file = data / "multiple_choice" / "mine.jsonl"
    options = ("--model", checkpoint, "--run", run.store.root, "--method", "caa", "--value", "power", "--out", tmp_path)
    status, out, _ = cli(capsys, *options, "--set", f"named={file}")
    assert status == 0 and "named" in out and "mean of 1 values" in out
    table = pd.read_parquet(tmp_path / "capability.parquet")
    assert np.isfinite(table["difference"]).all() and table["n"].unique().tolist() == [12]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "no public set is named"),
        (("--set", "piqa"), "needs --data"),
        (("--set", "a=/nowhere"), "does not exist"),
        (("--set", "a=DATA", "--method", "caa"), "belong to a run"),
        (("--set", "a=DATA", "--span", "some"), "unknown span"),
        (("--set", "a=DATA", "--set", "a=DATA"), "two sets are named 'a'"),
        (("--set", "a=DATA", "--run", "/nowhere"), "not a run folder"),
    ],
)
def test_command_refuses(capsys: pytest.CaptureFixture[str], data: Path, argv: tuple[str, ...], message: str) -> None:
    file = str(data / "multiple_choice" / "mine.jsonl")
    status, out, err = cli(capsys, *(arg.replace("DATA", file) for arg in argv))
    assert status == 2 and out == "" and message in err and len(err.strip().splitlines()) == 1


def test_an_edit_of_a_run_is_saved_with_what_the_run_measured(run: Run, tiny_model: Any, tmp_path: Path) -> None:
    texts: list[dict[str, str]] = []
    for method in run.methods():
        folder = run.save_edit("power", method, tmp_path / method, model=tiny_model)
        saved = nv.load_edit(folder, model=tiny_model)
        (item,) = run.edits(tiny_model, [method], ["power"])
        assert nv.editing.content_hash(saved.edit) == nv.editing.content_hash(item.edit)
        assert saved.origin["prompt_hash"] == run.manifest["prompt_hash"] and saved.origin["seed"] == run.config.seed
        measures = saved.about["measures"]
        values = run.table("values")
        row = values[(values["method"] == method) & (values["steered"] == "power")].iloc[-1]
        assert measures["gain"]["est"] == pytest.approx(row["gain"], nan_ok=True)
        assert {x["measured"] for x in measures["leakage"]["rows"]} == set(run.table("leakage")["measured"])
        assert bool(measures["curves"]) == (item.target is not None and "power" in set(_doses(run, method)))
        assert measures["cost"]
        texts += measures["texts"]
        assert f"# power: a steering edit for {run.manifest['model']['name']}" in (folder / "README.md").read_text()
    assert texts and set(texts[0]) == {"prompt", "unedited", "edited"}  # a run writes those of some methods
    with pytest.raises(InputError, match="magic"):
        run.save_edit("power", "magic", tmp_path / "x", model=tiny_model)
    assert not (tmp_path / "x").exists()


def _doses(run: Run, method: str) -> Any:
    doses = run.table("dose")
    return doses[doses["method"] == method]["steered"]
