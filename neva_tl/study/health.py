"""What an edit costs, for a whole study: the unedited model's distributions are held once and every condition compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from neva_tl.editing import Edit
from neva_tl.evaluation.capability import Reference, capability, neutral_texts, reference
from neva_tl.evaluation.fluency import fluency
from neva_tl.study.config import Profile, StudyConfig


@dataclass(eq=False)
class Health:
    """Capability on value-free text and questions of the test split, and fluency of generated texts."""

    model: Any
    config: StudyConfig
    profile: Profile

    @cached_property
    def texts(self) -> Reference:
        """The neutral texts with the unedited model's distributions."""
        if self.config.demo:
            from neva_tl import demo

            found = list(demo.neutral_texts("test", self.profile.neutral, self.config.seed))
        else:
            found = list(neutral_texts("test"))[: self.profile.neutral]
        return reference(self.model, found)

    @cached_property
    def questions(self) -> pd.DataFrame | None:
        """Multiple-choice questions of the model's own world; None where the profile asks for none."""
        if not self.config.demo or not self.profile.questions:
            return None
        from neva_tl import demo

        return pd.DataFrame(demo.neutral_questions("test", self.profile.questions, self.config.seed))

    def capability(self, edits: Sequence[Edit], questions: bool = True) -> dict[str, float]:
        """`perplexity`, `kl` and, where there are questions, `accuracy` under edits."""
        asked = self.questions if questions else None
        return capability(self.model, tuple(edits), self.texts, asked)

    def fluency(self, generations: pd.DataFrame | None) -> dict[str, float]:
        """Repetition and perplexity of texts under the unedited model; empty where no text was made."""
        return {} if generations is None else fluency(generations, self.model)
