"""Every file of a run folder x one bit flipped, cut, emptied: never accepted in silence, never another library's error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.damage import DAMAGES, damage
from helpers.paths import FIXTURES, ROOT
from helpers.scripts import draw_figure
from neva_tl.activations.state import Checkpoint
from neva_tl.circuits import CircuitGraph
from neva_tl.core.errors import InputError
from neva_tl.core.ledger import LEDGER
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing.gate import RelevanceGate
from neva_tl.plots.files import FIGURES, draw_run, write_figures
from neva_tl.study import Study, StudyResult
from neva_tl.study.analyses.reopened_run import Run
from neva_tl.study.report import write_report
from neva_tl.study.run import changed_files, stages, tables
from neva_tl.study.run.changed_files import verify
from neva_tl.study.run.run_folder import RunFolder

OLD_RUN = FIXTURES / "v0.1" / "run"
#: Files whose content depends on the time, or holds such a file.
TIMED = ("manifest.json", "report.html", LEDGER)
#: A file of each kind, each in a group of its own.
KINDS = (
    "stats/samples.npy", "neurons/power.safetensors", "gate.safetensors", "circuits/power.json", "cells/vector_layers.json",
    "cells/base.items.parquet", "cells/dose/caa/power.json", "cells/measure/caa/power@0.4.texts.parquet",
    "cells/measure/neva_shift/power@0.4.json", "cells/ablation/power.parquet", "tables/effects.csv", "tables/neurons.parquet",
    "tables/leakage.parquet", "results.json", "report.html", "manifest.json",
)  # fmt: skip
#: Every file of the run; a test checks that these are all.
VALUES = ("power", "benevolence")
MEASURED = [f"cells/measure/{method}/{value}@0.4" for method in ("caa", "neva_shift") for value in VALUES]
FILES = sorted(
    [
        *(f"cells/base{ending}" for ending in (".json", ".items.parquet", ".texts.parquet")),
        *(f"{name}{ending}" for name in MEASURED for ending in (".json", ".items.parquet", ".texts.parquet")),
        *(f"cells/dose/{method}/{value}.json" for method in ("caa", "neva_shift") for value in VALUES),
        *(f"cells/ablation/{value}.parquet" for value in VALUES),
        *(f"circuits/{value}.json" for value in VALUES),
        *(f"neurons/{value}{ending}" for value in VALUES for ending in (".json", ".safetensors")),
        *("stats/stats.json", "stats/stats.safetensors", "stats/samples.npy", "stats/samples_table.parquet"),
        *(
            f"tables/{name}.{ending}"
            for name in (
                *("ablation", "circuit", "dose", "effects", "generations", "leakage", "methods", "neurons", "values"),
            )
            for ending in ("parquet", "csv")
        ),
        *(
            "cells/vector_layers.json",
            "gate.safetensors",
            "manifest.json",
            "prompts.parquet",
            "results.json",
            "report.html",
        ),
    ]
)


@pytest.fixture(scope="module")
def rerun(demo: Any) -> Callable[[Path], StudyResult]:
    """Runs the study of the 0.1 fixture in a folder, without figures."""
    config = json.loads((OLD_RUN / "manifest.json").read_text())["config"]
    options = {name: tuple(x) if isinstance(x, list) else x for name, x in config.items() if name != "model"}

    def run(folder: Path) -> StudyResult:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            patch.setattr(tables, "_figures", lambda cells, jobs: None)
            return Study(demo, **options).run(folder, workers=1)

    return run


@pytest.fixture(scope="module")
def whole(rerun: Callable[[Path], StudyResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that nothing disturbed; damaged files in it are written back."""
    return rerun(tmp_path_factory.mktemp("changed") / "whole").folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".bad" not in path.name]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.name not in TIMED}


def read(run: Path, name: str) -> None:
    """Read one file of a run as the code does."""
    store, path = RunFolder(run), Path(name)
    folder = path.parts[0]
    if name == "manifest.json":
        Run.open(run)
    elif folder == "stats":
        stages.stored_stats(store)
    elif folder == "neurons":
        NeuronSet.load(run / "neurons" / path.stem)
    elif folder == "circuits":
        CircuitGraph.load(run / name)
    elif name == "gate.safetensors":
        RelevanceGate.load(run / name)
    elif name.endswith(".parquet"):
        store.read_table(name.removesuffix(".parquet"))
    elif name.endswith(".json"):
        store.read_json(name)
    else:  # nothing reads a csv file or the page
        raise InputError(f"{run / name} was changed since it was written")


def test_the_list_of_files_is_complete(whole: Path) -> None:
    assert sorted(verify(whole)["file"]) == FILES and set(verify(whole)["state"]) == {"good"}
    assert set(KINDS) <= set(FILES)


@pytest.mark.parametrize("kind", DAMAGES)
def test_every_reader_refuses_a_changed_file(whole: Path, kind: str) -> None:
    for name in FILES:
        before = damage(whole / name, kind)
        try:
            with pytest.raises(InputError, match="was changed since it was written") as caught:
                read(whole, name)
            assert str(whole / name) in str(caught.value) and "\n" not in str(caught.value)
            table = verify(whole).set_index("file")["state"]
            assert list(table[table != "good"].items()) == [(name, "changed")]
        finally:
            (whole / name).write_bytes(before)


@pytest.mark.parametrize("kind", DAMAGES)
def test_figures_report_and_edits_of_a_finished_run_refuse(whole: Path, demo: Any, kind: str) -> None:
    def edits() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            run = Run.open(whole)
            run.edits(demo, ["neva_shift"], ["power"])

    cells = "cells/measure/neva_shift/power@0.4.json"
    acts: list[tuple[str, Callable[[], Any]]] = [
        *((f"tables/{spec.table}.parquet", lambda name=name: draw_run(whole, name)) for name, spec in FIGURES.items()),
        *((name, lambda: write_report(whole)) for name in ("results.json", "manifest.json", "circuits/power.json")),
        ("tables/methods.parquet", lambda: write_report(whole)),
        ("tables/methods.parquet", lambda: StudyResult(whole).table("methods")),
        ("results.json", lambda: StudyResult(whole).results),
        *((name, edits) for name in ("stats/samples.npy", "stats/stats.safetensors", "neurons/power.json", cells)),
        *((name, edits) for name in ("gate.safetensors", "cells/vector_layers.json", "tables/values.parquet")),
    ]
    for name, act in acts:
        if not (whole / name).exists():
            continue
        before = damage(whole / name, kind)
        try:
            with pytest.raises(InputError, match="was changed since it was written") as caught:
                act()
            assert name in str(caught.value)
        finally:
            (whole / name).write_bytes(before)


@pytest.mark.parametrize("kind", DAMAGES)
def test_an_unfinished_run_sets_each_changed_file_aside(
    copy: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a resumed run does first; afterwards nothing that is changed is left to be read."""
    store = RunFolder(copy)
    store.write_json("manifest.json", about := store.read_json("manifest.json") | {"finished": False})
    original = {name: (copy / name).read_bytes() for name in FILES}
    for name in FILES:
        damage(copy / name, kind)
        capsys.readouterr()
        RunFolder.open(copy, about)
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith(f"{copy / name}: changed since it was written") and ".bad" in lines[0]
        assert (copy / f"{name}.bad").is_file(), name
        states = verify(copy).set_index("file")["state"]
        assert "changed" not in set(states)
        restored = name == "manifest.json" or name.endswith(".csv")
        assert (states[name] == "good") == restored
        if restored:
            assert (copy / name).read_bytes() == original[name]
        for other, content in original.items():  # written back, as the run would
            if other != "manifest.json":
                (copy / other).write_bytes(content)
        for aside in copy.rglob("*.bad*"):
            aside.unlink()


@pytest.mark.parametrize("kind", ["bit", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("cut", "emptied"))])
def test_a_run_with_a_changed_file_of_each_kind_ends_as_an_untouched_one(
    copy: Path, whole: Path, rerun: Callable[[Path], StudyResult], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in KINDS:
        damage(copy / name, kind)
    capsys.readouterr()
    rerun(copy)
    err = capsys.readouterr().err
    for name in KINDS:
        assert f"{copy / name}: changed since it was written" in err and (copy / f"{name}.bad").is_file()
    assert contents(copy) == contents(whole)
    assert set(verify(copy)["state"]) == {"good"}
    assert json.loads((copy / "manifest.json").read_text())["finished"] is True
    rerun(copy)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [*FILES, LEDGER])
def test_each_changed_file_is_made_again(
    whole: Path, rerun: Callable[[Path], StudyResult], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in DAMAGES:
        folder = Path(shutil.copytree(whole, tmp_path / kind))
        if kind == "cut":  # unfinished
            (folder / "report.html").unlink()
        if (folder / name).exists():
            damage(folder / name, kind)
            rerun(folder)
            assert name in capsys.readouterr().err
            assert contents(folder) == contents(whole), (name, kind)
            assert set(verify(folder)["state"]) == {"good"}
        shutil.rmtree(folder)


def test_a_missing_file_is_made_again(copy: Path, whole: Path, rerun: Callable[[Path], StudyResult]) -> None:
    for name in ("cells/base.texts.parquet", "neurons/benevolence.safetensors", "tables/dose.csv", "manifest.json"):
        (copy / name).unlink()
    rerun(copy)
    assert contents(copy) == contents(whole)


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_changed_ledger_is_named(
    copy: Path, whole: Path, rerun: Callable[[Path], StudyResult], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changed_files._noted.clear()
    damage(copy / LEDGER, kind)
    rerun(copy)
    assert LEDGER in capsys.readouterr().err
    assert contents(copy) == contents(whole)


def test_two_bad_copies_of_a_file_are_both_left(copy: Path) -> None:
    store = RunFolder(copy)
    for expected in ("results.json.bad", "results.json.bad2"):
        store.write_json("results.json", {})
        damage(copy / "results.json", "bit")
        assert store.repair() == ("results.json",) and (copy / expected).is_file()


def test_what_no_command_makes_again_is_named_and_stays(
    copy: Path, rerun: Callable[[Path], StudyResult], capsys: pytest.CaptureFixture[str]
) -> None:
    store = RunFolder(copy)
    store.write_text("annotations/me.labels.jsonl", "{}\n")
    store.write_table("tables/sensitivity", store.read_table("tables/values"))
    (copy / "notes.txt").write_text("mine")
    for name in ("annotations/me.labels.jsonl", "tables/sensitivity.parquet"):
        damage(copy / name, "cut")
    rerun(copy)
    err = capsys.readouterr().err
    assert "me.labels.jsonl: changed since it was written (2 bytes, 3 were written): left as it is" in err
    assert "tables/sensitivity.parquet: not made again by this command" in err
    assert (copy / "annotations/me.labels.jsonl").is_file() and (copy / "notes.txt").read_text() == "mine"
    states = verify(copy).set_index("file")["state"]
    assert dict(states[states != "good"]) == {"annotations/me.labels.jsonl": "changed", "notes.txt": "unknown"}


# ---------------------------------------------------------------- an unfinished collection


@pytest.fixture
def stopped(rerun: Callable[[Path], StudyResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run that was stopped while it collected, with a state after each batch."""

    def stop(self: Checkpoint, accumulated: Any) -> None:
        save(self, accumulated)
        raise KeyboardInterrupt

    save = Checkpoint.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "due", lambda self: True)
        patch.setattr(Checkpoint, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            rerun(tmp_path / "run")
    assert list((tmp_path / "run/stats").glob("state.*"))
    return tmp_path / "run"


def collect_again(run: Path, whole: Path, demo: Any) -> None:
    """Collect as a resumed run does, and compare with the undisturbed statistics."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        opened = Run.open(whole)
        stages.collected(RunFolder(run), demo, opened.pairs(), opened.config, False)
    for name in ("stats.safetensors", "samples.npy", "samples_table.parquet"):
        assert (run / "stats" / name).read_bytes() == (whole / "stats" / name).read_bytes()


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("name", ["state.1of1.safetensors", "samples.npy"])
def test_a_changed_state_is_collected_again(
    stopped: Path, whole: Path, name: str, kind: str, demo: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = stopped / "stats" / name
    if name == "samples.npy" and kind == "bit":  # a row that was finished
        array = np.load(file, mmap_mode="r+")
        row = int(np.flatnonzero(np.abs(array).sum((1, 2)))[0])
        array[row, 0, 0] += 1e-3
        array.flush()
        del array
    else:
        damage(file, kind)
    collect_again(stopped, whole, demo)
    assert f"{file}: changed since it was written" in capsys.readouterr().err
    assert (stopped / f"stats/{name}.bad").is_file()


def test_an_untouched_state_is_resumed(
    stopped: Path, whole: Path, demo: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    collect_again(stopped, whole, demo)
    assert capsys.readouterr().err == "" and not list(stopped.rglob("*.bad"))
    assert set(verify(stopped)["state"]) == {"good"}


# ---------------------------------------------------------------- neva-tl verify, and runs of version 0.1


def test_verify_on_the_command_line(copy: Path, call: Any) -> None:
    status, out, err = call("verify", copy)
    assert (status, out, err) == (0, f"{len(FILES)} good, 0 changed, 0 missing, 0 unknown\n", "")
    damage(copy / "results.json", "cut")
    (copy / "cells/base.json").unlink()
    (copy / "own.txt").write_text("mine")
    before = contents(copy)
    status, out, err = call("verify", copy, "--json")
    result = json.loads(out)
    assert status == 1 and (result["changed"], result["missing"], result["unknown"]) == (1, 1, 1)
    states = {row["file"]: row["state"] for row in result["files"] if row["state"] != "good"}
    assert states == {"results.json": "changed", "cells/base.json": "missing", "own.txt": "unknown"}
    status, out, err = call("verify", copy)
    assert (
        status == 1
        and "results.json" in out
        and "1 changed, 1 missing, 1 unknown" in out
        and len(err.splitlines()) == 1
    )
    assert contents(copy) == before
    status, _, err = call("verify", copy / "cells")
    assert status == 2 and "is not a run folder" in err


def test_a_changed_run_on_the_command_line(copy: Path, call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    damage(copy / "tables/methods.parquet", "bit")
    assert draw_figure("method_bars", [str(copy)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(InputError, match="was changed"):
        write_figures(copy)
    damage(copy / "manifest.json", "bit")
    status, _, err = call("annotate", copy, "--annotator", "me")
    assert status == 2 and "was changed" in err and len(err.splitlines()) == 1


def test_a_run_of_0_1_loads_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(OLD_RUN, tmp_path / "run"))
    Run.open(run)
    assert "no ledger" in capsys.readouterr().err
    Run.open(run)
    assert capsys.readouterr().err == ""  # once
    assert set(verify(run)["state"]) == {"unknown"} and not (run / LEDGER).exists()


@pytest.mark.parametrize("kind", ["cut", "emptied"])
def test_readers_of_a_run_of_0_1_raise_only_our_errors(tmp_path: Path, kind: str) -> None:
    run = Path(shutil.copytree(OLD_RUN, tmp_path / "run"))
    for name in verify(run)["file"]:
        before = damage(run / name, kind)
        with pytest.raises(InputError) as caught:
            read(run, name)
        assert "\n" not in str(caught.value), name
        (run / name).write_bytes(before)
