"""What a study takes from another that differs in its gate: measured there once, and refused where it is not the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from neva_tl.core.errors import InputError
from neva_tl.study import Study, StudyResult
from neva_tl.study.run import stages, tables
from neva_tl.study.run.adopt import adopt
from neva_tl.study.run.run_folder import RunFolder


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def with_config(about: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**about, "config": {**about["config"], **fields}}


def test_another_gate_measures_what_it_measured_alone_without_collecting_again(
    small_study: Callable[..., Study],
    finished: StudyResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "_figures", lambda cells, jobs: None)
    options = {"gate": "relevance", "methods": ("neva_shift", "caa"), "overrides": {"targets": (0.1,)}}
    alone = small_study(**options).run(tmp_path / "alone")

    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("collected or traced again")

    monkeypatch.setattr(stages, "collect", never)
    monkeypatch.setattr(stages, "margin_effects", never)
    taken = small_study(**options).run(tmp_path / "taken", like=finished.folder)
    for name in ("methods", "leakage", "neurons", "effects"):
        pd.testing.assert_frame_equal(taken.table(name), alone.table(name))
    assert not list(taken.folder.rglob("*.tmp*")) and manifest(taken.folder)["config"]["gate"] == "relevance"


def test_what_the_folder_has_stays(finished: StudyResult, tmp_path: Path) -> None:
    about = with_config(manifest(finished.folder), gate="relevance", methods=["caa"])
    store = RunFolder.open(tmp_path / "run", about)
    store.write_json("cells/unit.json", {"mine": 1})
    assert adopt(store, about, finished.folder) > 5 and store.read_json("cells/unit.json") == {"mine": 1}
    copied = (tmp_path / "run/stats/stats.json").read_bytes()
    assert copied == (finished.folder / "stats/stats.json").read_bytes()
    assert not (tmp_path / "run/cells/vector_layers.json").exists()  # chosen by edits, which the gate changes
    assert not (tmp_path / "run/cells/measure").exists() and not (tmp_path / "run/cells/dose").exists()
    assert adopt(store, about, finished.folder) == 0


@pytest.mark.parametrize(
    "fields",
    [{"seed": 7}, {"profile": "full"}, {"values": ["power"]}, {"selector": "neva"}, {"overrides": {"test": 5}}],
)
def test_another_study_gives_nothing(finished: StudyResult, tmp_path: Path, fields: dict[str, Any]) -> None:
    about = with_config(manifest(finished.folder), **fields)
    store = RunFolder.open(tmp_path / "run", about)
    with pytest.raises(InputError, match="differs from this study in more than gate"):
        adopt(store, about, finished.folder)
    assert not list((tmp_path / "run").iterdir())


def test_other_weights_or_no_folder(finished: StudyResult, tmp_path: Path) -> None:
    about = manifest(finished.folder)
    store = RunFolder.open(tmp_path / "run", about)
    first, *rest = about["study"].split("-")
    with pytest.raises(InputError, match="differs from this study"):
        adopt(store, {**about, "study": "-".join([first, "0" * 16, *rest[1:]])}, finished.folder)
    with pytest.raises(InputError, match="not a run folder"):
        adopt(store, about, tmp_path / "nowhere")
