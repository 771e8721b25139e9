"""Locks between real processes: the second is refused or waits, a killed one blocks nobody."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.paths import ROOT
from neva_tl.core.errors import InputError
from neva_tl.core.locks import LOCK, is_lock, is_locked, lock_file, lock_folder, refuse_locked

HOLD = """
import sys
from pathlib import Path
from neva_tl.core.locks import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Start another process that locks a folder until its stdin ends."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "locked\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_second_process_is_refused_and_told_by_whom(
    holder: Callable[[Path], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = holder(tmp_path / "run")
    for refused in (lambda: lock_folder(tmp_path / "run").__enter__(), lambda: refuse_locked(tmp_path / "run")):
        with pytest.raises(InputError) as caught:
            refused()
        line = str(caught.value)
        assert "\n" not in line and f"process {process.pid} on {socket.gethostname()}" in line
        assert str(tmp_path / "run") in line and "wait until it has finished" in line
    assert is_locked(tmp_path / "run")
    process.communicate("\n", timeout=30)
    assert not is_locked(tmp_path / "run") and list((tmp_path / "run").iterdir()) == []


def test_a_killed_process_blocks_nobody(holder: Callable[[Path], subprocess.Popen[str]], tmp_path: Path) -> None:
    process = holder(tmp_path / "run")
    process.kill()
    process.wait()
    assert (tmp_path / "run" / LOCK).exists()  # its file is left, unlocked
    refuse_locked(tmp_path / "run")
    with lock_folder(tmp_path / "run"):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_a_process_can_wait(
    holder: Callable[[Path], subprocess.Popen[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = holder(tmp_path / "entry")
    assert process.stdin is not None
    timer = threading.Timer(0.3, process.stdin.close)
    timer.start()
    with lock_folder(tmp_path / "entry", wait=True):
        assert process.wait(timeout=30) == 0
    timer.join()
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"in use by process {process.pid}" in err and "waiting" in err


def test_blocks_are_nested_in_a_thread_and_not_between_threads(tmp_path: Path) -> None:
    outcome: list[str] = []

    def other() -> None:
        try:
            with lock_folder(tmp_path):
                outcome.append("locked")
        except InputError as error:
            outcome.append(str(error))

    with lock_folder(tmp_path), lock_folder(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert f"process {os.getpid()}" in outcome[0]
    other()
    assert outcome[1] == "locked"


def test_an_error_inside_releases_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock_folder(tmp_path):
        raise ZeroDivisionError
    assert not is_locked(tmp_path)


def test_refusing_creates_nothing_and_bad_folders_are_one_line(tmp_path: Path) -> None:
    refuse_locked(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"), lock_folder(tmp_path / "file" / "run"):
        pass
    (tmp_path / "x.lock").mkdir()
    with pytest.raises(InputError, match="cannot lock the cache"), lock_file(tmp_path / "x.lock", "the cache"):
        pass


def test_names_of_lock_files(tmp_path: Path) -> None:
    with lock_folder(tmp_path):
        names = sorted(file.name for file in tmp_path.iterdir())
    assert len(names) == 2 and all(map(is_lock, names)) and not is_lock("manifest.json")
