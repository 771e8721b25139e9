"""Value profiles: scores on all ten values, with and without an edit.

Coupling follows the idea of the Value Alignment Tax (arXiv 2602.12134; the formula is ours): off-target change per unit of
on-target gain. `LeakageResult`, which `couple` builds from profiles, provides coupling and the coupling matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.arguments import check_arguments
from neva_tl.core.brief import brief
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
    """Scores of the measured values on the same items, unedited and edited.

    Intervals are 95 % cluster bootstraps over items, one per value, not corrected for their number.

    Attributes:
        before: Item scores of the unedited model.
        after: Item scores of the edited model; None without an edit.
        judge: Name of the judge.
        unit: Unit of the scores.
        n_boot: Number of bootstrap draws of the intervals.
        seed: Seed of the bootstrap.

    Example:
        >>> judge = nv.evaluation.LogProbJudge.fit(model, pairs, per_value=4, affirmation=False)
        >>> profile = nv.evaluation.value_profile(model, judge, edit, n_boot=20)
        >>> len(profile.df), sorted(profile.means(edited=True)) == sorted(nv.theories.SCHWARTZ.names)
        (10, True)
    """

    before: ItemScores
    after: ItemScores | None = None
    judge: str = ""
    unit: str = ""
    n_boot: int = 1000
    seed: int = 0

    __repr__ = brief

    @property
    def values(self) -> tuple[str, ...]:
        """Measured values in circle order."""
        return self.before.values

    @property
    def change(self) -> ItemScores | None:
        """Difference after minus before per item; None without an edit.

        An item without a score on either side has no difference.
        """
        if self.after is None:
            return None
        pairs = zip(self.after.scores, self.before.scores, strict=True)
        return replace(self.before, scores=tuple(b - a for b, a in pairs), bounds=None, extra={})

    @property
    def df(self) -> pd.DataFrame:
        """Table with one row per value.

        Columns `value, before, before_lo, before_hi`, with an edit also `after` and `change` with their bounds, then `n` (items
        with a score) and `missing`.
        """
        sides = {"before": self.before, "after": self.after, "change": self.change}
        tables = {k: x.table(n_boot=self.n_boot, seed=self.seed) for k, x in sides.items() if x is not None}
        out = pd.DataFrame({"value": list(self.values)})
        for name, table in tables.items():
            out[name], out[f"{name}_lo"], out[f"{name}_hi"] = table["est"], table["lo"], table["hi"]
        counted = tables.get("change", tables["before"])
        return out.assign(n=counted["n"], missing=counted["missing"])

    def means(self, edited: bool = False) -> dict[str, float]:
        """Compute the mean score of each value without missing items; NaN where all are.

        Args:
            edited: Use the edited scores instead of the unedited ones.

        Raises:
            InputError: `edited` is True and the profile has no edit.
        """
        items = self.after if edited else self.before
        if items is None:
            raise InputError("this profile has no edited side: give value_profile an edit")
        return {
            name: float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")
            for name, scores in zip(items.values, items.scores, strict=True)
        }

    def tax(self, value: str) -> Estimate:
        """Compute the mean |off-target change| per unit of gain of the steered value.

        Null unless the gain's interval lies above 0. The |change| of a constant value is noise and above 0, so with few items the
        result is an upper bound.

        Args:
            value: The value towards which the edit steered.

        Raises:
            InputError: The profile has no edit, or the value is not measured.
        """
        return couple({value: self}, seed=self.seed, n_boot=self.n_boot).coupling

    def _repr_html_(self) -> str:
        facts = {"judge": self.judge or None, "unit": self.unit or None, "items": sum(map(len, self.before.scores))}
        return card("Value profile", facts | {"edited": self.after is not None}, self.df)

    def parts(self) -> list[str | pd.DataFrame]:
        """Return the sentence and the table of `str(profile)`."""
        return [f"value profile by {self.judge} ({self.unit})", self.df.round(3)]

    def __str__(self) -> str:
        return "\n".join(part if isinstance(part, str) else part.to_string(index=False) for part in self.parts())

    def show(self) -> Any:
        """Plot the profile around Schwartz's circle as a matplotlib figure."""
        from neva_tl.plots import profile_plot

        return profile_plot(self.df, title="Value profile", axis=self.unit)


@check_arguments
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
    """Measure a model's value profile, unedited and under edits.

    Args:
        model: A TransformerLens model.
        judge: A ModelJudge such as `SurveyJudge.load()`, or a TextJudge.
        edits: One edit or several that are active together; None measures only the unedited model.
        prompts: Open prompts (text judges only).
        decoding: Decoding of the texts (text judges only).
        before: Unedited scores of the same judge, where they exist already.
        n_boot: Number of bootstrap draws of the intervals.
        seed: Seed of the bootstrap.

    Raises:
        InputError: A text judge has no prompts, `before` has other items, or a survey cannot measure the edits.

    Example:
        >>> judge = nv.evaluation.LogProbJudge.fit(model, pairs, per_value=4, affirmation=False)
        >>> profile = nv.evaluation.value_profile(model, judge, edit, n_boot=20)
        >>> profile.df.columns.tolist()[:3]
        ['value', 'before', 'before_lo']
    """

    def scores(condition: Edits) -> ItemScores:
        return observe(model, condition, prompts, judge, decoding=decoding).items

    unedited = scores(None) if before is None else before
    after = None if edits is None else scores(edits)
    if after is not None:
        assemble("profile", unedited, {"edit": after})  # checks that the items are the same
    return ValueProfile(unedited, after, judge.name, judge.unit, n_boot, seed)


@check_arguments
def couple(
    profiles: Mapping[str, ValueProfile], *, method: str = "edit", seed: int = 0, n_boot: int = 1000
) -> LeakageResult:
    """Combine edited profiles into one leakage result.

    It has `.coupling`, `.coupling_matrix()`, `.change_correlation()` and the NLR.

    Args:
        profiles: Steered value -> profile of an edit towards it, all with the same judge and unedited model.
        method: Name in tables.
        seed: Seed of the bootstrap.
        n_boot: Number of bootstrap draws.

    Raises:
        InputError: `profiles` is empty, a profile has no edit, or the judges, items or unedited models differ.

    Example:
        >>> judge = nv.evaluation.LogProbJudge.fit(model, pairs, per_value=4, affirmation=False)
        >>> profile = nv.evaluation.value_profile(model, judge, edit, n_boot=20)
        >>> nv.evaluation.couple({"benevolence": profile}, n_boot=20).matrix.shape
        (1, 10)
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
