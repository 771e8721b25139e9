"""The baselines of 2025 and 2026 in whole studies: a tiny chat model, and the demo model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.results_schema import check_results
from neva_tl.study import Study, StudyResult
from neva_tl.study.run import tables

METHODS = ("persona_vector", "austeer", "cna", "role_few_shot")


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_figures", lambda cells, jobs: None)


def check_doses(result: StudyResult, values: tuple[str, ...]) -> dict[str, Any]:
    """Doses are searched in the methods' units for all but the prompt, and every condition changes the texts' scores."""
    methods: dict[str, Any] = check_results(result.folder, values, METHODS)["methods"]
    doses = result.table("dose")
    assert set(doses["method"]) == set(METHODS) - {"role_few_shot"}
    first = doses[doses["dose"] > 0].groupby("method")["dose"].min()
    assert {"austeer", "cna", "persona_vector"} == set(first.index) and (first <= 1).all()
    for name in METHODS:
        for value in values:
            entry = methods[name]["per_value"][value]
            assert np.isfinite(entry["gain"]["est"]) and entry["gain"]["est"] != 0, (name, value)
            assert (entry["dose"] is None) == (name == "role_few_shot")
    assert methods["role_few_shot"]["reached"] == "own gain"
    return methods


def test_on_a_tiny_chat_model(small_study: Callable[..., Study], tmp_path: Path) -> None:
    result = small_study(methods=METHODS, values=("power",)).run(tmp_path / "run")
    check_doses(result, ("power",))


def test_on_the_demo_model(demo: Any, tmp_path: Path) -> None:
    overrides = {"validation": 6, "test": 8, "targets": (0.2,), "refine": 1, "neutral": 4, "questions": 6}
    overrides |= {"rows_per_value": 60, "n_boot": 20, "text_values": 1, "text_prompts": 1, "max_new_tokens": 8}
    study = Study(demo, values=("power",), methods=METHODS, overrides=overrides)
    methods = check_doses(study.run(tmp_path / "run"), ("power",))
    assert methods["persona_vector"]["gain"]["est"] > 0
