"""The run folder: whole files or none, and no folder of anyone else's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl.core.errors import InputError
from neva_tl.core.files import to_json
from neva_tl.core.versions import versions
from neva_tl.study.run.run_folder import RunFolder

STUDY = {"study": "a", "config": {"seed": 0, "k": None}, "prompt_hash": "p", "model": {"weights_hash": "w"}}


def opened(root: Path, identity: dict[str, Any] = STUDY) -> RunFolder:
    store = RunFolder.open(root, identity)
    store.write_json("manifest.json", identity)
    return store


def test_pieces_come_back_as_written(tmp_path: Path) -> None:
    store = opened(tmp_path / "run")
    table = pd.DataFrame({"method": ["neva", "caa"], "gain": [0.5, np.nan], "n": [3, 4]})
    store.write_table("tables/made_up", table)
    pd.testing.assert_frame_equal(store.read_table("tables/made_up"), table)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "run" / "tables" / "made_up.csv"), table)
    store.write_json("cells/a/b.json", {"dose": 2.0, "none": None})
    assert store.read_json("cells/a/b.json") == {"dose": 2.0, "none": None}
    assert store.has("cells/a/b.json") and not store.has("cells/a/c.json")
    assert not list((tmp_path / "run").rglob("*.tmp*"))


def test_a_write_that_dies_leaves_the_old_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path / "run")
    store.write_json("a.json", {"x": 1})
    store.write_table("t", pd.DataFrame({"x": [1]}))

    def die(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        store.write_json("a.json", {"x": 2})
    with pytest.raises(KeyboardInterrupt):
        store.write_table("t", pd.DataFrame({"x": [2]}), csv=False)
    with pytest.raises(KeyboardInterrupt):
        store.write_json("new.json", {})
    assert store.read_json("a.json") == {"x": 1} and list(store.read_table("t")["x"]) == [1]
    assert not store.has("new.json")


def test_what_a_killed_run_was_writing_is_swept_away(tmp_path: Path) -> None:
    store = opened(tmp_path / "run")
    store.write_json("cells/a.json", {})
    half = store.path("cells/.b.json.123.tmp/b.json")
    half.write_text("{")
    opened(tmp_path / "run")
    assert not half.parent.exists() and store.has("cells/a.json")


def test_the_same_study_resumes(tmp_path: Path) -> None:
    opened(tmp_path / "run").write_json("cells/base.json", {})
    assert RunFolder.open(tmp_path / "run", STUDY).has("cells/base.json")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"config": {"seed": 1, "k": None}}, "seed was 0, now 1"),
        ({"prompt_hash": "q"}, "other prompt texts"),
        ({"model": {"weights_hash": "v"}}, "other model weights"),
        ({}, "other profile settings"),
    ],
)
def test_another_study_is_refused_with_the_reason(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    opened(tmp_path / "run")
    with pytest.raises(InputError, match=reason) as caught:
        RunFolder.open(tmp_path / "run", {**STUDY, **change, "study": "b"})
    assert "belongs to another study" in str(caught.value)


def test_foreign_places_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        RunFolder.open(file, STUDY)
    with pytest.raises(InputError, match="cannot make the run folder"):
        RunFolder.open(file / "below", STUDY)
    with pytest.raises(InputError, match="not empty"):
        RunFolder.open(tmp_path, STUDY)
    assert file.read_text() == "mine" and list(tmp_path.iterdir()) == [file]
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="is not a manifest"):
        RunFolder.open(broken, STUDY)
    (tmp_path / "empty").mkdir()
    assert RunFolder.open(tmp_path / "empty", STUDY).root == tmp_path / "empty"


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats()
    | st.text(max_size=3)
    | st.floats(width=32).map(np.float32)
    | st.integers(0, 9).map(np.int64),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2) | st.integers(0, 3), inner),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(plain)
def test_json_knows_no_nan(data: Any) -> None:
    text = json.dumps(to_json(data), allow_nan=False)
    assert to_json(json.loads(text)) == json.loads(text)


def test_finite_keeps_what_is_finite() -> None:
    data = {"a": np.float64(0.5), "b": (1, np.inf), "c": {0.2: float("nan")}, "d": np.bool_(True), "e": "nan"}
    assert to_json(data) == {"a": 0.5, "b": [1, None], "c": {"0.2": None}, "d": True, "e": "nan"}


def test_versions_name_what_matters() -> None:
    assert {"python", "neva_tl", "torch", "transformer-lens"} <= set(versions())
