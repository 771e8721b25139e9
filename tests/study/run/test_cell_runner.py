"""The search for doses: how often texts are written, by a scorer that counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neva_tl.editing import AddVector, Edit
from neva_tl.evaluation.conditions.decoding import Decoding
from neva_tl.evaluation.conditions.observe import Observed
from neva_tl.evaluation.judges.base import ItemScores
from neva_tl.study.run.cell_runner import CellRunner
from neva_tl.study.run.config import PROFILES, StudyConfig
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.scorers import Scorer

POWER = AddVector({0: np.ones(2)})


@dataclass(eq=False)
class Counting(Scorer):
    """Gain is a tenth of the dose; texts break above a dose."""

    breaks_above: float = 0.0
    written: list[float] = field(default_factory=list)

    @property
    def reads(self) -> bool:
        return False

    def observe(self, edits: Sequence[Edit], split: str, values: Sequence[str] = ("power",)) -> Observed:
        assert split == "validation"
        gain = sum(edit.dose for edit in edits) / 10
        return Observed(ItemScores(("power",), (np.array([gain, gain]),), (np.array(["a", "b"]),)))

    def invalid(self, edits: Sequence[Edit], split: str, seen: Observed) -> tuple[float, int]:
        if not edits:
            return 0.0, 20
        (edit,) = edits
        self.written.append(edit.dose)
        return float(edit.dose > self.breaks_above), 20


def searched(tmp_path: Path, breaks_above: float) -> tuple[dict[str, Any], list[float]]:
    profile = replace(PROFILES["model", "quick"], targets=(0.2, 0.4, 0.6), refine=2)
    scorer = Counting(
        None, lambda split, values: pytest.fail("no judge is asked"), {}, Decoding(), breaks_above=breaks_above
    )
    store = RunFolder.open(tmp_path / "run", {"study": "x"})
    cells = CellRunner(store, None, scorer, StudyConfig(), profile)
    cells.search({"cells/dose/a/power.json": ("power", POWER)}, (1.0, 2.5, 5.0, 8.0))
    return store.read_json("cells/dose/a/power.json"), scorer.written


def test_texts_are_not_written_below_a_dose_whose_texts_were_legible(tmp_path: Path) -> None:
    found, written = searched(tmp_path, breaks_above=100)
    tried = [row["dose"] for row in found["table"]]
    assert len(tried) > len(written) and set(written) == {2.5, 5.0, 8.0}  # the grid, once each dose gains anything
    for target in (0.2, 0.4, 0.6):
        assert 10 * target <= found["doses"][str(target)] + 1e-9 <= 13 * target  # reached, and not far beyond
    assert all(row["admissible"] for row in found["table"])


def test_below_a_dose_that_breaks_texts_they_are_written(tmp_path: Path) -> None:
    found, written = searched(tmp_path, breaks_above=5.5)
    between = [dose for dose in written if 5.0 < dose < 8.0]
    assert between, "the search must look between the last legible dose and the first that is not"
    rows = {row["dose"]: row["admissible"] for row in found["table"]}
    assert all(rows[dose] == (dose <= 5.5) for dose in written)
    assert found["doses"]["0.6"] is None and 4 <= found["doses"]["0.4"] <= 5
