"""`neva-tl inspect` and `neva-tl card`: each kind of file is recognised, and damage is an exit status."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import neva_tl as nv
from helpers.paths import FIXTURES, ROOT
from neva_tl.editing import RolePrompt

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def edit(tmp_path: Path) -> Path:
    return nv.save_edit(RolePrompt("Be kind."), tmp_path / "edit", about={"value": "kindness"})


def test_kinds(call: Call, edit: Path) -> None:
    run = FIXTURES / "v0.1" / "run"
    for path, what, intact in (
        (edit, "an edit (schema 2)", "yes"),
        (edit / "edit.json", "an edit (schema 2)", "yes"),
        (FIXTURES / "schema1" / "paced", "an edit (schema 1)", "yes"),
        (run / "neurons" / "power.json", "a neuron set (schema 1)", "yes"),
        (run / "neurons" / "power.safetensors", "a neuron set (schema 1)", "yes"),
        (ROOT / "examples" / "thrift.csv", "a contrast set", "readable"),
        (run, "a run folder (finished)", "readable"),
    ):
        status, out, _ = call("inspect", path)
        lines = dict(line.split("  ", 1) for line in out.splitlines())
        assert status == 0 and lines["what"].strip() == what, (path, out)
        assert lines["intact"].strip().startswith(intact)
        assert "content hash" in lines
        assert json.loads(call("inspect", path, "--json")[1])["intact"] is True


def test_hashes_are_those_of_python(call: Call, edit: Path) -> None:
    facts = json.loads(call("inspect", edit, "--json")[1])
    assert facts["content hash"] == nv.editing.content_hash(RolePrompt("Be kind."))
    facts = json.loads(call("inspect", ROOT / "examples" / "thrift.csv", "--json")[1])
    assert facts["content hash"] == nv.prompts.load(ROOT / "examples" / "thrift.csv").hash


def test_damage(call: Call, edit: Path, tmp_path: Path) -> None:
    text = (edit / "edit.json").read_text()
    (edit / "edit.json").write_text(text.replace("Be kind.", "Be \\u001b[2J cruel."))
    status, out, _ = call("inspect", edit)
    assert status == 1 and "was changed after it was saved" in out and "\x1b" not in out
    (edit / "edit.json").write_text(text[:-20])
    assert call("inspect", edit)[0] == 1
    neurons = FIXTURES / "v0.1" / "run" / "neurons"
    for suffix in (".json", ".safetensors"):
        shutil.copy(neurons / f"power{suffix}", tmp_path / f"n{suffix}")
    (tmp_path / "n.safetensors").write_bytes(b"cut")
    status, out, _ = call("inspect", tmp_path / "n.json")
    assert status == 1 and "does not belong" in out


def test_card_of_a_saved_edit_is_written_again(call: Call, edit: Path) -> None:
    (edit / "README.md").unlink()
    assert call("card", edit)[0] == 0
    assert "# kindness: a steering edit" in (edit / "README.md").read_text()
    (edit / "README.md").write_text("mine")
    status, _, err = call("card", edit)
    assert status == 2 and "was not written by neva_tl" in err
    assert call("card", edit, "--value", "power")[0] == 2
