"""Lines and bars on stderr at each level, and bars of inner loops."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.paths import ROOT
from neva_tl.core import messages
from neva_tl.core.messages import Level, at_level, detail, long_steps, notice, progress_bar, say, timed


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    with at_level(Level.NORMAL):
        yield


def test_what_each_level_prints(capsys: pytest.CaptureFixture[str]) -> None:
    printed = {}
    for level in Level:
        with at_level(level):
            say("progress")
            say("unwanted", False)
            notice("notice")
            detail("detail")
            with timed("step"):
                pass
            logging.getLogger("some.library").warning("a library's warning")
        printed[level] = capsys.readouterr().err
    # below `VERBOSE` other handlers print the records of libraries (pytest's own here)
    assert printed[Level.QUIET].splitlines() == ["notice"]
    assert printed[Level.NORMAL].splitlines() == ["progress", "notice"]
    lines = printed[Level.VERBOSE].splitlines()
    assert lines[:2] == ["progress", "notice"] and lines[2].endswith("s] detail") and "step: 0.0 s" in lines[3]
    assert lines[4].endswith("s] a library's warning") and len(lines) == 5


def test_the_former_level_comes_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), at_level(Level.VERBOSE):
        raise ZeroDivisionError
    assert messages.level() is Level.NORMAL and messages._handler not in logging.getLogger().handlers


def test_a_bar_needs_progress_and_is_off_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar([1, 2], desc="loop")) == [1, 2]
    assert capsys.readouterr().err == ""
    assert list(progress_bar([1, 2], desc="loop", progress=True)) == [1, 2]
    assert "loop: 100%" in capsys.readouterr().err
    with at_level(Level.QUIET), long_steps(True):
        assert list(progress_bar([1, 2], desc="loop", progress=True)) == [1, 2]
        assert list(progress_bar([1, 2], desc="inner")) == [1, 2]
    assert capsys.readouterr().err == ""


def test_inner_loops_show_bars_only_where_they_take_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with long_steps(True):
        list(progress_bar(range(3), desc="quick"))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(messages, "DELAY_S", 1e-9)
    monkeypatch.setattr(messages, "FILE_INTERVAL_S", 0.0)
    with long_steps(True):
        for _ in progress_bar(range(2), desc="slow"):
            list(progress_bar(range(3), desc="nested"))
        with long_steps(False):
            list(progress_bar(range(3), desc="unwanted"))
        for _ in progress_bar(range(2), desc="outer", leaf=False):
            list(progress_bar(range(3), desc="leaf"))
    printed = capsys.readouterr().err
    assert "slow:" in printed and "nested" not in printed and "unwanted" not in printed
    assert "outer:" in printed and "leaf:" in printed


def test_a_line_is_not_appended_to_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(total=2, desc="loop", progress=True) as bar:
        bar.update()
        notice("left out: a figure")
    lines = [line.strip() for line in capsys.readouterr().err.replace("\r", "\n").splitlines()]
    assert "left out: a figure" in lines


def test_lines_and_bars_have_one_place() -> None:
    """No other module prints on stderr or makes a bar, so that the level holds everywhere."""
    for file in Path(ROOT, "neva_tl").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert file.name == "messages.py" or ("file=sys.stderr" not in text and "import tqdm" not in text), file
