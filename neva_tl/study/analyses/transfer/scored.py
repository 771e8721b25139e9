"""Test items of a source, under one phrasing of the system prompt."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from neva_tl.editing import Edit
from neva_tl.evaluation.judges.base import ItemScores
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.scorers import Scorer, from_frame, to_frame


@dataclass(eq=False)
class Scored:
    """Test items of a source, with the stored scores of every edit.

    Attributes:
        name: Name in the column `scored`.
        source: Name of the source.
        systems: System prompts of the items; None means the chat template's own.
        original: Whether they are the source's own system prompts.
        store: Folder of the source.
        scorer: The judge.
        measured: Values of the items.
    """

    name: str
    source: str
    systems: frozenset[str | None]
    original: bool
    store: RunFolder
    scorer: Scorer
    measured: tuple[str, ...]

    @property
    def system(self) -> str:
        """The system prompts as text; "" for the chat template's own."""
        return " | ".join(sorted(system or "" for system in self.systems))

    def base(self) -> ItemScores:
        """Return the unedited scores."""
        return self._scores(None, "base")

    def scores(self, edit: Edit, name: str) -> ItemScores:
        """Return the scores under an edit.

        Args:
            edit: The edit at its dose.
            name: Name of its cell.
        """
        return self._scores(edit, name)

    def _scores(self, edit: Edit | None, name: str) -> ItemScores:
        file = f"{self._folder}/{name}"
        frame = self._stored(file, edit)
        if frame is None:
            observed = self.scorer.observe(() if edit is None else (edit,), "test", self.measured)
            dose = np.nan if edit is None else float(edit.dose)
            self.store.write_table(file, to_frame(observed).assign(dose=dose), csv=False)
            frame = self.store.read_table(file)
        scores = from_frame(frame, "score", shared=False)
        assert scores is not None
        affirmation = frame[frame["kind"] == "affirmation"]
        extra = {"affirmation": (affirmation["score"].to_numpy(float), affirmation["cluster"].to_numpy(str))}
        return replace(scores, extra=extra)

    @property
    def _folder(self) -> str:
        if self.original:
            return "transfer"
        # by content: other phrasings in a later version must not read these cells
        return f"transfer-{hashlib.sha256(self.system.encode()).hexdigest()[:12]}"

    def _stored(self, file: str, edit: Edit | None) -> pd.DataFrame | None:
        """The cell at the dose of the edit; None without one. Cells of earlier versions do not contain their dose."""
        if not self.store.has(f"{file}.parquet"):
            return None
        frame = self.store.read_table(file)
        same = edit is None or "dose" not in frame or np.isclose(frame["dose"].iloc[0], edit.dose)
        return frame if same else None
