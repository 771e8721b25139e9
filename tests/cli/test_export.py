"""`neva-tl export`: a saved edit as plain PyTorch and as a control vector; what cannot be written is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

import neva_tl as nv


@pytest.fixture
def saved(loaded: dict[str, Any], folders: dict[str, Path], tmp_path: Path) -> Path:
    model = loaded["llama"]
    vector = np.arange(nv.models.info(model).d_model, dtype=float)
    return nv.save_edit(nv.AddVector({1: vector}, dose=2.0), tmp_path / "edit", model=model, name=str(folders["llama"]))


def test_writes_both_formats(call: Any, saved: Path, tmp_path: Path) -> None:
    status, out, _ = call("export", saved, tmp_path / "torch")
    assert status == 0 and out.strip() == str(tmp_path / "torch")
    assert sorted(file.name for file in (tmp_path / "torch").iterdir()) == ["steer.py", "steer.safetensors"]
    assert call("export", saved, tmp_path / "torch")[0] == 0  # its own folder again
    status, out, _ = call("export", saved, tmp_path / "x.gguf", "--format", "gguf", "--dose", "0.5")
    assert status == 0 and out.strip() == str(tmp_path / "x.gguf")
    (direction,) = GGUFReader(tmp_path / "x.gguf").tensors
    np.testing.assert_allclose(direction.data, 0.5 * np.arange(len(direction.data)))


def test_refuses_in_one_line_and_writes_nothing(call: Any, saved: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for argv, message in (
        ((saved, tmp_path / "x.bin", "--format", "gguf"), "write it to x.gguf"),
        ((saved, tmp_path / "x", "--format", "onnx"), "torch or gguf"),
        ((saved, saved), "not empty"),
        ((tmp_path, tmp_path / "x"), "does not hold an edit"),
    ):
        status, out, err = call("export", *argv)
        assert status == 2 and not out and err.count("\n") == 1 and message in err
    assert sorted(tmp_path.rglob("*")) == before
