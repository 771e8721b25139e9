"""The user's cache: entries by last use, a size limit, nothing of the last hour removed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from neva_tl.core import user_cache
from neva_tl.core.errors import InputError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEVA_TL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _entry(kind: str, key: str, size: int, hours_ago: float) -> Path:
    folder = user_cache.entry_folder(kind, key)
    (folder / "data").write_bytes(b"x" * size)
    then = time.time() - hours_ago * 3600
    os.utime(folder.parent / f"{key}{user_cache.USED}", (then, then))
    return folder


def test_the_longest_unused_goes_first(cache: Path) -> None:
    old, middle, new = (_entry("steering", k, 100, h) for k, h in (("old", 9), ("middle", 5), ("new", 2)))
    removed = user_cache.prune(250)
    assert [entry.path for entry in removed] == [old]
    assert not old.exists() and middle.exists() and new.exists()
    assert [entry.path.name for entry in user_cache.entries()] == ["new", "middle"]


def test_an_entry_in_use_stays(cache: Path) -> None:
    used = _entry("evidence", "used", 1000, 0.1)
    assert user_cache.prune(10) == [] and used.exists()
    assert len(user_cache.prune(everything=True)) == 1 and not used.exists()


def test_checkpoints_are_entries_and_hidden_folders_are_not(cache: Path) -> None:
    (cache / "model-abc").mkdir(parents=True)
    (cache / "model-abc" / "config.json").write_text("{}")
    (cache / ".model-abc-tmp").mkdir()
    _entry("evidence", "e", 10, 3)
    assert {(entry.kind, entry.path.name) for entry in user_cache.entries()} == {
        ("checkpoint", "model-abc"),
        ("evidence", "e"),
    }


@pytest.mark.parametrize("text", ["x", "-1", "0", "nan", "inf"])
def test_a_limit_that_is_not_a_size_is_one_line(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("NEVA_TL_CACHE_GB", text)
    with pytest.raises(InputError, match="NEVA_TL_CACHE_GB"):
        user_cache.limit_bytes()


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEVA_TL_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="NEVA_TL_CACHE"):
        user_cache.entry_folder("evidence", "key")


def test_the_command(cache: Path, call: Any) -> None:
    _entry("steering", "abc", 2_000_000, 3)
    status, out, _ = call("cache")
    assert status == 0 and "steering" in out and "abc" in out
    status, out, _ = call("cache", "--clear")
    assert status == 0 and "removed 1 entries" in out and user_cache.entries() == []


def test_sizes_are_counted_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing walks the entries that were used in the last hour, and the others only the first time."""
    counted: list[str] = []
    count = user_cache._counted
    monkeypatch.setattr(user_cache, "_counted", lambda folder: counted.append(folder.name) or count(folder))
    old, new = _entry("evidence", "old", 300, 5), _entry("evidence", "new", 100, 0.1)
    first = user_cache.entries()
    assert sorted(counted) == ["new", "old"]
    counted.clear()
    assert user_cache.entries() == first and counted == ["new"]
    assert {entry.path: entry.size for entry in first} == {old: 300, new: 100}
    # a use forgets the size, since the entry may grow
    (user_cache.entry_folder("evidence", "old") / "more").write_bytes(b"x" * 50)
    then = time.time() - 2 * 3600
    os.utime(old.parent / f"old{user_cache.USED}", (then, then))
    assert {entry.path.name: entry.size for entry in user_cache.entries()} == {"old": 350, "new": 100}


def test_an_entry_that_another_process_writes_into_is_not_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, idle = _entry("evidence", "busy", 100, 5), _entry("evidence", "idle", 100, 5)
    monkeypatch.setattr(user_cache, "is_locked", lambda folder: folder == busy)
    assert [entry.path for entry in user_cache.prune(everything=True)] == [idle]
    assert busy.exists() and not idle.exists()
