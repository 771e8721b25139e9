"""The model of a saved edit: found by what the edit recorded, or by the name that the user gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neva_tl as nv
from neva_tl.core.errors import InputError
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.study.steering.saved_model import model_of_edit


def _vector(model: Any) -> nv.AddVector:
    return nv.AddVector({0: np.ones(nv.models.info(model).d_model)}, dose=1.0)


def test_the_recorded_name_loads_the_model(demo: Any, tmp_path: Path) -> None:
    saved = nv.load_edit(nv.save_edit(_vector(demo), tmp_path / "edit", model=demo, name="demo"))
    assert nv.fingerprint(model_of_edit(tmp_path / "edit", saved)) == nv.fingerprint(demo)


def test_an_edit_without_a_model_takes_the_one_that_the_user_names(demo: Any, tmp_path: Path, call: Any) -> None:
    saved = nv.load_edit(nv.save_edit(_vector(demo), tmp_path / "edit"))
    with pytest.raises(InputError, match="does not say which model it edits: name it with --model"):
        model_of_edit(tmp_path / "edit", saved)
    assert nv.fingerprint(model_of_edit(tmp_path / "edit", saved, "demo")) == nv.fingerprint(demo)
    code, out, _ = call("generate", "mara says that", "--edit", tmp_path / "edit", "--model", "demo", "--tokens", "3")
    assert code == 0 and "[edit]" in out


def test_the_recorded_precision_of_matrix_products_is_taken(folders: dict[str, Path], tmp_path: Path) -> None:
    model = nv.load(folders["llama"], matmul="bf16")
    saved = nv.load_edit(nv.save_edit(_vector(model), tmp_path / "edit", model=model, name=str(folders["llama"])))
    assert nv.fingerprint(model_of_edit(tmp_path / "edit", saved))["matmul"] == "bf16"
    plain = model_of_edit(tmp_path / "edit", saved, dtype="float32")  # named by the user, who is told the difference
    assert "matmul" not in nv.fingerprint(plain)
    assert nv.fingerprint(model_of_edit(tmp_path / "edit", saved, dtype="float32", matmul="bf16"))["matmul"] == "bf16"


def test_another_model_is_refused(demo: Any, stories260k: Any, shared_dir: Path, tmp_path: Path) -> None:
    saved = nv.load_edit(nv.save_edit(_vector(demo), tmp_path / "edit", model=demo, name="demo"))
    with pytest.raises(InputError, match="was made for demo"):
        model_of_edit(tmp_path / "edit", saved, str(shared_dir / "models" / "stories260K"))


def test_another_model_is_taken_where_it_is_allowed(folders: dict[str, Path], tmp_path: Path, call: Any) -> None:
    """By both commands, with the warning; sizes that do not fit are refused all the same."""
    model = nv.load(folders["llama"])
    about = {"value": "thrift"}
    edit = nv.save_edit(_vector(model), tmp_path / "edit", model=model, name="llama", about=about)
    twin = tiny_checkpoint(tmp_path / "twin", "llama", seed=3)
    command = ("generate", "mara says", "--edit", edit, "--model", twin, "--tokens", "2")
    code, _, error = call(*command)
    assert code == 2 and "was made for llama (other weights)" in error
    code, out, error = call(*command, "--allow-mismatch")
    assert code == 0 and "[thrift]" in out and "nothing that was measured of it holds here" in error
    talk = ("chat", "--edit", edit, "--model", twin, "--tokens", "2")
    assert call(*talk, typed="/quit\n")[0] == 2
    code, _, error = call(*talk, "--allow-mismatch", typed="/off\n/quit\n")
    assert code == 0 and error.count("nothing that was measured of it holds here") == 1
    assert error.index("holds here") < error.index("unedited")  # before the conversation
    small = tiny_checkpoint(tmp_path / "small", "llama", d_model=16, d_mlp=24, n_layers=2)
    code, _, error = call("generate", "mara says", "--edit", edit, "--model", small, "--allow-mismatch")
    assert code == 2 and "does not fit this model" in error and error.strip().count("\n") == 0
