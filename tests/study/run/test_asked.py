"""A study whose texts a local model is asked about: searches ask for the steered value, the test for all of the judge's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from neva_tl.evaluation.judges.local_answers import LocalAnswers
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.study import Study
from neva_tl.study.run import tables

VALUES = ("power", "tradition")
BUDGET = {
    "validation": 2, "test": 3, "max_new_tokens": 4, "refine": 1, "neutral": 2, "rows_per_value": 12, "n_boot": 20,
    "targets": (0.001,),
}  # fmt: skip


def pairs(path: Path) -> Path:
    rows = [
        {
            "prompt": f"Who keeps the {thing}?",
            "plus": f"I {plus} the {thing}.",
            "minus": f"I {minus} it.",
            "value": value,
        }
        for value, plus, minus in (("power", "rule", "share"), ("tradition", "keep", "replace"))
        for thing in (
            "mill",
            "farm",
            "school",
            "tower",
            "forge",
            "market",
            "bakery",
            "garden",
            "bridge",
            "choir",
            "hut",
            "ship",
        )
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_a_search_of_doses_asks_for_the_steered_value_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_figures", lambda cells, jobs: None)
    judge = tiny_checkpoint(tmp_path / "judge", chat=True, n_ctx=1024, seed=1)
    edited = tiny_checkpoint(tmp_path / "edited", chat=True, n_ctx=1024, seed=2)
    asked: Counter[tuple[str, ...]] = Counter()
    ask = LocalAnswers.ask

    def counting(self: LocalAnswers, requests: Any, *args: Any) -> Any:
        for _, _, values, directions in requests:
            asked[(*(value.name for value in values), *directions)] += 1
        return ask(self, requests, *args)

    monkeypatch.setattr(LocalAnswers, "ask", counting)
    study = Study(
        model=str(edited),
        prompts=str(pairs(tmp_path / "pairs.csv")),
        judge=f"llm:{judge}#values={','.join(VALUES)}&oppose=no",
        methods=("neva_shift", "role"),
        values=VALUES,
        theory="schwartz",
        selector="effect_size",
        selection={"flips": 0, "require_q": False, "delta": 0.0, "lam": 0.0, "require_split_half": False},
        k=8,
        overrides=BUDGET,
    )
    study.run(tmp_path / "run")
    assert (tmp_path / "run/report.html").is_file()
    dose = (tmp_path / "run/cells/dose/neva_shift/power.json").read_text()
    assert '"leakage"' not in dose
    # unedited texts, test texts and calibration: both values; doses and the layer: the steered one
    assert asked[("power", "express")] > 0 and asked[("tradition", "express")] > 0
    assert asked[("power", "tradition", "express")] > 0
    assert not any("oppose" in names for names in asked if len(names) < 4)
