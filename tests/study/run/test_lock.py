"""Two processes on one run folder: the second command is refused in one line, before it loads a model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import neva_tl as nv
from helpers.bad_inputs import THINGS
from helpers.paths import ROOT
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.study import Study
from neva_tl.study.analyses.script import script
from neva_tl.study.run import changed_files
from neva_tl.study.run.run_folder import RunFolder

HOLD = """
import sys
from neva_tl.core.locks import lock_folder
with lock_folder(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def other(run: Path) -> Iterator[int]:
    """Another process that writes into the run folder; its id."""
    argv = [sys.executable, "-c", HOLD, str(run)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline() == "locked\n"
        yield process.pid
        process.kill()


def test_commands_are_refused(call: Any, run: Path, other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neva_tl.models.loading._boot", lambda *args: pytest.fail("loaded a model first"))
    before = sorted(run.iterdir())
    for command in ("run", "leakage", "layers"):
        status, out, err = call(command, "--out", run)
        assert (status, out) == (2, "") and err.count("\n") == 1, (command, err)
        assert f"{run} is in use by process {other} on " in err and "run the same command again" in err
    assert sorted(run.iterdir()) == before


def test_scripts_and_the_python_api_are_refused(
    run: Path, other: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(nv.InputError, match=f"in use by process {other}"):
        Study("demo").run(run)
    (run / "manifest.json").write_text("{}")
    monkeypatch.setattr("sys.argv", ["x", str(run)])
    assert script("lens", "Doc.", lambda *_: pytest.fail("the script ran")) == 2
    assert f"in use by process {other}" in capsys.readouterr().err


def test_a_killed_process_blocks_nobody_and_its_files_are_not_the_run_s(run: Path, other: int, tmp_path: Path) -> None:
    os.kill(other, 9)
    while subprocess.run(["ps", "-o", "stat=", "-p", str(other)], capture_output=True, text=True).stdout[:1] not in "Z":
        pass
    assert any(run.iterdir())  # the lock that it left
    RunFolder.open(run, {"study": "mine"}).write_json("manifest.json", {"study": "mine"})
    assert set(changed_files.verify(run)["file"]) == {"manifest.json"}


def test_the_lock_is_held_during_the_work_and_released_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neva_tl.core.locks import LOCK
    from neva_tl.study.run import study as module

    out, seen = tmp_path / "run", []

    def measure(*args: Any, **options: Any) -> None:
        seen.append((out / LOCK).is_file())
        raise KeyboardInterrupt

    monkeypatch.setattr(module.StudyWorkspace, "open", lambda *args, **options: None)
    monkeypatch.setattr(module, "measure_all", measure)
    rows = [f"power,I rule the {thing}.,I leave the {thing} to others." for thing in THINGS]
    (tmp_path / "pairs.csv").write_text("\n".join(["value,question_1,question_2", *rows]) + "\n")
    study = Study(str(tiny_checkpoint(tmp_path / "tiny")), prompts=f"pairs:{tmp_path / 'pairs.csv'}", values=("power",))
    with pytest.raises(KeyboardInterrupt):
        study.run(out)
    assert seen == [True] and not (out / LOCK).exists()
