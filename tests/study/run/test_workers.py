"""A study's values in several processes: the same files as in one, errors that come through, and how many are taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from neva_tl.core.errors import InputError
from neva_tl.editing import AddVector, Edit
from neva_tl.methods import METHODS, Evidence, Method, caa
from neva_tl.study import Study, StudyResult
from neva_tl.study.run import tables, workers
from neva_tl.study.run.config import StudyConfig

SMALL: dict[str, Any] = {
    "validation": 3, "test": 4, "neutral": 1, "n_boot": 20, "max_new_tokens": 2, "targets": (0.1,),
    "text_values": 1, "text_prompts": 1,
}  # fmt: skip


def test_two_processes_measure_what_one_does(
    finished: StudyResult, checkpoint: Path, small_study: Callable[..., Study], pairs_file: Path, tmp_path: Path
) -> None:
    """The model by its folder, so that others can load it; every cell is equal, and nothing half-written is left."""
    options = small_study().config
    study = Study(
        str(checkpoint),
        prompts=str(pairs_file),
        values=options.values,
        methods=options.methods,
        overrides=dict(options.overrides),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_figures", lambda cells, jobs: None)
        shared = study.run(tmp_path / "two", workers=2)
    names = sorted(path.relative_to(finished.folder) for path in finished.folder.glob("cells/**/*.*"))
    assert len(names) > 20 and not list(shared.folder.rglob("*.tmp*"))
    for name in names:
        ours, theirs = shared.folder / name, finished.folder / name
        if name.suffix == ".parquet":
            pd.testing.assert_frame_equal(pd.read_parquet(ours), pd.read_parquet(theirs))
        elif name.suffix == ".json":
            assert json.loads(ours.read_text()) == json.loads(theirs.read_text()), name


def test_a_method_of_a_notebook_reaches_the_workers(checkpoint: Path, pairs_file: Path, tmp_path: Path) -> None:
    """Its builder is defined where no other process can import it."""

    def twice(evidence: Evidence, value: str) -> Edit:
        return AddVector({layer: 2 * vector for layer, vector in caa(evidence, value).vectors.items()})

    small = {**SMALL, "refine": 0}
    study = {"prompts": str(pairs_file), "values": ("power", "tradition"), "overrides": small}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_figures", lambda cells, jobs: None)
        patch.setitem(METHODS, "twice", Method(twice, "vectors"))
        result = Study(str(checkpoint), methods=("twice",), **study).run(tmp_path / "two", workers=2)
    assert list(result.table("methods")["method"]) == ["twice"]
    assert len(list((result.folder / "cells" / "measure" / "twice").glob("*.json"))) == 2


def test_an_error_in_a_worker_comes_through(tmp_path: Path) -> None:
    config = StudyConfig(model=str(tmp_path / "nothing"), prompts="demo", judge="logprob").resolved()
    seen: list[str] = []
    with pytest.raises(InputError, match="nothing"):
        workers.spread(tmp_path, config, [("power",), ("security",)], workers=2, look=seen.append, poll=0.05)
    assert seen


def test_as_many_as_cores_for_a_small_model_on_a_cpu(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, want in ((1, 1), (2, 2), (64, workers.MOST)):
        monkeypatch.setattr(workers, "cores", lambda cores=cores: cores)
        assert workers.default_workers(tiny_model) == want
    big = torch.nn.Linear(20_000, 20_000, bias=False, device="meta")
    assert workers.default_workers(big) == 1
