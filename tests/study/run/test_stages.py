"""Evidence of a study whose values share all their words."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from neva_tl.study import StudyResult
from neva_tl.study.analyses.reopened_run import ReopenedRun
from neva_tl.study.report import write_report
from neva_tl.study.run import stages


def test_where_no_word_is_one_values_own_no_circuit_is_drawn_and_the_rest_is_there(
    finished: StudyResult, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ReopenedRun.open(shutil.copytree(finished.folder, tmp_path / "run"))
    evidence = run.evidence(tiny_model)
    shutil.rmtree(run.store.root / "circuits")
    for name in ("circuit", "neurons"):
        (run.store.root / f"tables/{name}.parquet").unlink()
    monkeypatch.setattr(stages, "value_tokens", lambda model, values: pd.DataFrame({"shared": [True, True]}))
    stages.write_evidence(run.store, tiny_model, run.pairs(), evidence.stats, evidence.neurons)
    assert len(run.store.read_table("tables/circuit")) == 0 and not (run.store.root / "circuits").exists()
    assert len(run.store.read_table("tables/neurons")) == sum(len(found) for found in evidence.neurons.values())
    write_report(run.store.root)
    assert "Circuit" in (run.store.root / "report.html").read_text()
