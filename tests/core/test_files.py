"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neva_tl.core.files import atomic_write


def test_what_is_written_is_there_at_the_end_and_not_before(tmp_path: Path) -> None:
    target = tmp_path / "power@0.2.items.json"
    target.write_text("old")
    with atomic_write(target) as file:
        assert file.name == target.name and file.parent.parent == tmp_path
        file.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("wrong", [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_nothing_behind(tmp_path: Path, wrong: type[BaseException]) -> None:
    def fail() -> None:
        with atomic_write(tmp_path / "a.json") as file:
            file.write_text("half")
            raise wrong

    with pytest.raises(wrong):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_writer_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.json"):
        pass


def test_what_a_killed_process_left_is_swept_and_a_living_one_keeps_its_own(tmp_path: Path) -> None:
    target = tmp_path / "table [1].csv"
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left = tmp_path / f".table [1].csv.{int(dead.stdout)}.tmp"
    living, other = tmp_path / f".table [1].csv.{os.getppid()}.tmp", tmp_path / ".table [1].csv.mine.tmp"
    for folder in (left, living, other):
        folder.mkdir()
        for name in ("table [1].csv", ".tmpOfAWriter"):
            (folder / name).write_text("half")
    with atomic_write(target) as file:
        file.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([target, living, other])
