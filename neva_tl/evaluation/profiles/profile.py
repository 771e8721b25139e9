"""Value profiles: a model's scores on all ten values, before and after an edit, and how the changes hang together.

Coupling is that of the Value Alignment Tax (arXiv 2602.12134, by its idea; the formula is ours): off-target change per
unit of on-target gain. Both it and the coupling matrix are read off `LeakageResult`, which `couple` makes from profiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.evaluation.conditions.decoding import Decoding
from neva_tl.evaluation.conditions.leakage import assemble
from neva_tl.evaluation.conditions.observe import Edits, observe
from neva_tl.evaluation.judges.base import ItemScores, Judge
from neva_tl.evaluation.measures.estimate import Estimate
from neva_tl.evaluation.measures.result import LeakageResult, measure
from neva_tl.models import Model


@dataclass(frozen=True, eq=False)
class ValueProfile:
    """Scores of the values a judge measures, unedited and (where an edit was given) edited, on the same items.

    Intervals are 95 % cluster bootstraps over items, each value by itself: ten of them, not corrected for their number.

    Attributes:
        before, after: item scores; `after` is None where there was no edit.
        judge, unit: printed with the table.
        n_boot, seed: of the intervals.
    """

    before: ItemScores
    after: ItemScores | None = None
    judge: str = ""
    unit: str = ""
    n_boot: int = 1000
    seed: int = 0

    @property
    def values(self) -> tuple[str, ...]:
        """The values measured, in circle order."""
        return self.before.values

    @property
    def change(self) -> ItemScores | None:
        """After minus before, item by item (an item without a score on either side has none); None without an edit."""
        if self.after is None:
            return None
        pairs = zip(self.after.scores, self.before.scores, strict=True)
        return replace(self.before, scores=tuple(b - a for b, a in pairs), bounds=None, extra={})

    @property
    def df(self) -> pd.DataFrame:
        """One row per value: `value, before, before_lo, before_hi`, with an edit also `after` and `change` with their
        ends, then `n` (items scored) and `missing`."""
        parts = {"before": self.before, "after": self.after, "change": self.change}
        tables = {k: x.table(n_boot=self.n_boot, seed=self.seed) for k, x in parts.items() if x is not None}
        out = pd.DataFrame({"value": list(self.values)})
        for name, table in tables.items():
            out[name], out[f"{name}_lo"], out[f"{name}_hi"] = table["est"], table["lo"], table["hi"]
        counted = tables.get("change", tables["before"])
        return out.assign(n=counted["n"], missing=counted["missing"])

    def means(self, edited: bool = False) -> dict[str, float]:
        """Mean score of each value (missing items left out; NaN where all are).

        Raises:
            InputError: the edited profile is asked for and there was no edit.
        """
        items = self.after if edited else self.before
        if items is None:
            raise InputError("this profile has no edited side: give value_profile an edit")
        return {
            name: float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")
            for name, scores in zip(items.values, items.scores, strict=True)
        }

    def tax(self, value: str) -> Estimate:
        """Mean |off-target change| per unit of gain of `value`, towards which the edit steered; null unless the gain's
        interval lies above 0. |change| of a value that does not move is noise, and above 0: with few items read it as an
        upper bound.

        Raises:
            InputError: there was no edit, or the value is not measured.
        """
        return couple({value: self}, seed=self.seed, n_boot=self.n_boot).coupling

    def _repr_html_(self) -> str:
        facts = {"judge": self.judge or None, "unit": self.unit or None, "items": sum(map(len, self.before.scores))}
        return card("Value profile", facts | {"edited": self.after is not None}, self.df)

    def __str__(self) -> str:
        return f"value profile by {self.judge} ({self.unit})\n{self.df.round(3).to_string(index=False)}"

    def show(self) -> Any:
        """The profile around Schwartz's circle, before and after, as a matplotlib figure."""
        from neva_tl.plots import profile_plot

        return profile_plot(self.df, title="Value profile", axis=self.unit)


def value_profile(
    model: Model,
    judge: Judge,
    edits: Edits = None,
    *,
    prompts: pd.DataFrame | Sequence[str] | None = None,
    decoding: Decoding | None = None,
    before: ItemScores | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> ValueProfile:
    """A model's value profile, and what an edit makes of it.

    Args:
        model: a TransformerLens model.
        judge: a ModelJudge such as `SurveyJudge.load()`, or a TextJudge.
        edits: an edit or several in force together; None measures the model as it is.
        prompts, decoding: open prompts and their decoding (text judges only).
        before: the unedited scores, where they were measured before with the same judge.
        n_boot, seed: of the intervals.

    Raises:
        InputError: a text judge without prompts, `before` of other items, or edits that a survey cannot see.
    """

    def scores(condition: Edits) -> ItemScores:
        return observe(model, condition, prompts, judge, decoding=decoding).items

    unedited = scores(None) if before is None else before
    after = None if edits is None else scores(edits)
    if after is not None:
        assemble("profile", unedited, {"edit": after})  # same items, or a clear error
    return ValueProfile(unedited, after, judge.name, judge.unit, n_boot, seed)


def couple(
    profiles: Mapping[str, ValueProfile], *, method: str = "edit", seed: int = 0, n_boot: int = 1000
) -> LeakageResult:
    """Several edited profiles as one leakage result: `.coupling`, `.coupling_matrix()`, `.change_correlation()`, NLR.

    Args:
        profiles: steered value -> the profile of an edit towards it; all before one judge and one unedited model.
        method: name in tables.
        seed, n_boot: of the intervals.

    Raises:
        InputError: no profiles, one without an edit, or profiles of different judges, items or unedited models.
    """
    if not profiles:
        raise InputError("coupling needs at least one edited profile")
    first = next(iter(profiles.values()))
    edited: dict[str, ItemScores] = {}
    for name, profile in profiles.items():
        if profile.after is None:
            raise InputError(f"the profile towards {name!r} has no edited side: give value_profile an edit")
        same = (profile.judge, profile.unit) == (first.judge, first.unit) and all(
            np.array_equal(a, b, equal_nan=True)
            for a, b in zip(profile.before.scores, first.before.scores, strict=False)
        )
        if not same:
            raise InputError(f"the profile towards {name!r} starts from another judge or another unedited model")
        edited[name] = profile.after
    responses = assemble(method, first.before, edited, judge=first.judge, unit=first.unit)
    return measure(responses, seed=seed, n_boot=n_boot, n_permutations=99)
