"""The study on the shipped demo model, made small: what `make demo` does, in less than a minute."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neva_tl as nv
from helpers.results_schema import check_results
from helpers.written_tables import check_dictionary
from neva_tl.core.values import VALUES
from neva_tl.study import StudyResult

STEERED = ("power", "benevolence")
METHODS = ("neva", "neva_shift", "caa", "random", "role")
OVERRIDES = {
    "validation": 12,
    "test": 24,
    "targets": (0.2,),
    "refine": 1,
    "neutral": 8,
    "questions": 12,
    "rows_per_value": 150,
    "n_boot": 100,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "run"


def study(demo: Any) -> nv.Study:
    return nv.Study(demo, values=STEERED, methods=METHODS, overrides=OVERRIDES)


@pytest.fixture(scope="module")
def finished(demo: Any, folder: Path) -> tuple[StudyResult, float]:
    started = time.process_time()
    result = study(demo).run(folder)
    return result, time.process_time() - started


def test_it_does_not_run_away(finished: tuple[StudyResult, float]) -> None:
    # of processor time, with room to spare: a busy machine must not fail a test
    assert finished[1] < 280


def test_results(finished: tuple[StudyResult, float]) -> None:
    result = finished[0]
    found = check_results(result.folder, STEERED, METHODS)
    assert found["judge"] == "exact" and found["model"]["name"] == "demo"
    for entry in found["methods"].values():
        assert 0 <= entry["csr_base"]["est"] <= 1 and 0 <= entry["csr"]["est"] <= 1
        assert {"accuracy", "kl", "perplexity"} <= set(entry["capability"])
        assert entry["capability"]["kl"]["base"]["est"] == pytest.approx(0, abs=1e-4)
    text = result.text()
    assert all(name in text for name in METHODS) and "NLR" in text
    assert list((result.folder / "figures").glob("*.pdf")) and list((result.folder / "figures").glob("*.png"))


def test_every_text_is_kept_with_its_scores(finished: tuple[StudyResult, float]) -> None:
    """CSR of a condition is the mean score of its texts, and all ten values are measured on the same texts."""
    result = finished[0]
    texts = result.table("generations")
    assert {f"score_{name}" for name in VALUES} <= set(texts.columns)
    assert (texts.groupby(["method", "steered"], dropna=False).size() == OVERRIDES["test"]).all()
    for method, entry in result.results["methods"].items():
        for value, cell in entry["per_value"].items():
            own = texts[(texts["method"] == method) & (texts["steered"] == value)]
            assert own[f"score_{value}"].mean() == pytest.approx(cell["csr"]["est"])
            assert 1 - own["valid"].mean() == pytest.approx(cell["invalid"]["est"])
    leakage = result.table("leakage")
    assert len(leakage) == len(METHODS) * len(STEERED) * len(VALUES)


def test_every_table_column_and_file_is_in_the_data_dictionary(finished: tuple[StudyResult, float]) -> None:
    assert check_dictionary(finished[0].folder) > 20


def test_steering_steers(finished: tuple[StudyResult, float]) -> None:
    """Small as it is: the main method gains, and more than random neurons of the same norm."""
    methods = finished[0].results["methods"]
    gain = {name: entry["gain"]["est"] for name, entry in methods.items()}
    assert gain["neva_shift"] > 0.05 and gain["neva_shift"] > gain["random"]
    assert gain["neva"] > gain["random"]
    ablation = finished[0].table("ablation")
    assert set(ablation["operation"]) == {"zero", "mean"} and np.isfinite(ablation["change"]).all()


def test_the_report_is_self_contained(finished: tuple[StudyResult, float]) -> None:
    page = (finished[0].folder / "report.html").read_text(encoding="utf-8")
    links = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", page)
    assert links and all(link.startswith(("#", "data:")) or (finished[0].folder / link).is_file() for link in links)
    for name in METHODS:
        assert name in page


def test_a_second_call_takes_seconds(finished: tuple[StudyResult, float], demo: Any, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    started = time.process_time()
    again = study(demo).run(folder)
    assert time.process_time() - started < 5
    assert again.results == finished[0].results
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")} == before
