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
