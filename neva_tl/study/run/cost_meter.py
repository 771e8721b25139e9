"""Capability cost of an edit.

The unedited model's distributions are stored once; every condition is compared with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from neva_tl.editing import Edit, edit
from neva_tl.evaluation.conditions.capability import TOKEN_BUDGET, Reference, capability, neutral_texts, reference
from neva_tl.evaluation.conditions.fluency import fluency
from neva_tl.models import LayerCache, Model
from neva_tl.models.inference import neutral_logprobs
from neva_tl.study.run.config import Profile, StudyConfig


@dataclass(eq=False)
class CostMeter:
    """Capability on neutral text and questions, and fluency of generated texts.

    Attributes:
        model: The loaded model.
        config: The resolved study.
        profile: Its budget.
    """

    model: Model
    config: StudyConfig
    profile: Profile

    @cached_property
    def neutral(self) -> list[str]:
        """The neutral texts."""
        if self.config.demo:
            from neva_tl import demo

            return list(demo.neutral_texts("test", self.profile.neutral, self.config.seed))
        return list(neutral_texts("test"))[: self.profile.neutral]

    @cached_property
    def texts(self) -> Reference:
        """The neutral texts with the unedited model's distributions."""
        return reference(self.model, self.neutral)

    @cached_property
    def questions(self) -> pd.DataFrame | None:
        """Multiple-choice questions of the demo world; None where the profile has none."""
        if not self.config.demo or not self.profile.questions:
            return None
        from neva_tl import demo

        return pd.DataFrame(demo.neutral_questions("test", self.profile.questions, self.config.seed))

    def capability(self, edits: Sequence[Edit], questions: bool = True) -> dict[str, float]:
        """Measure `perplexity`, `kl` and, where there are questions, `accuracy`.

        Args:
            edits: Edits of the condition.
            questions: Whether to ask the questions.
        """
        items = self.questions if questions else None
        return capability(self.model, tuple(edits), self.texts, items)

    def loss(self, edits: Sequence[Edit], reuse: LayerCache | None = None) -> float:
        """Measure the mean loss of the neutral texts, in nats per token.

        It equals the log of `capability`'s perplexity.

        Args:
            edits: Edits of the condition.
            reuse: Cache of the layers below the edited one.
        """
        with edit(self.model, *edits, reuse=reuse) as session:
            logprobs = neutral_logprobs(self.model, self.neutral, session=session, token_budget=TOKEN_BUDGET)
        return -float(np.concatenate(logprobs).mean())

    def fluency(self, generations: pd.DataFrame | None) -> dict[str, float]:
        """Measure repetition and perplexity of texts under the unedited model, and the meaning that rewritten ones keep.

        Args:
            generations: Generated texts; None gives an empty result.
        """
        if generations is None:
            return {}
        measures = fluency(generations, self.model)
        if "meaning" in generations and generations["meaning"].notna().any():
            measures["meaning"] = float(generations["meaning"].mean())
        return measures
