"""The rule of --out for steerings: the same request is written again, anything else is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neva_tl.core.errors import InputError
from neva_tl.study.steering.output import check_steering_folder

REQUEST = {
    "model": "m", "value": "thrift", "target": 0.4, "method": "auto", "prompt_hash": "abc", "selector": "auto",
    "scope": "auto", "gate": "auto", "dtype": "float32", "matmul": "float32", "seed": 0,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    settings = {"prompt_hash": "abc", "selector": "margin", "scope": "generated", "gate": "none", "dtype": "float32"}
    (tmp_path / "edit.json").write_text(json.dumps({"kind": "edit", "model": {"name": "m"}}))
    (tmp_path / "steering.json").write_text(
        json.dumps({"value": "thrift", "target": 0.4, "method": "neva", "settings": {**settings, "seed": 0}})
    )
    return tmp_path


def test_the_same_request_and_new_folders_pass(folder: Path) -> None:
    check_steering_folder(folder, REQUEST)
    check_steering_folder(folder, {**REQUEST, "method": "neva", "selector": "margin", "value": None})
    check_steering_folder(folder / "deep" / "new", REQUEST)
    assert not (folder / "deep").exists()
    (folder / "empty").mkdir()
    check_steering_folder(folder / "empty", REQUEST)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model": "other"}, "model was m, now other"), ({"value": "greed"}, "value was thrift, now greed"),
        ({"target": 0.5}, r"gain was 0\.4\d*, now 0\.5\d*"), ({"method": "caa"}, "method was neva, now caa"),
        ({"prompt_hash": "xyz"}, "other pairs"), ({"scope": "all"}, "scope was generated, now all"),
        ({"seed": 1}, "seed was 0, now 1"), ({"matmul": "bf16"}, "matmul was float32, now bf16"),
    ],
)  # fmt: skip
def test_another_request_is_refused(folder: Path, change: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=rf"holds another steering \({match}\): choose another --out"):
        check_steering_folder(folder, REQUEST | change)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="is not empty and holds no steering"):
        check_steering_folder(tmp_path, REQUEST)
    (tmp_path / "edit.json").write_text("{}")  # an edit that save_edit wrote has no results
    with pytest.raises(InputError, match="is not empty and holds no steering"):
        check_steering_folder(tmp_path, REQUEST)
