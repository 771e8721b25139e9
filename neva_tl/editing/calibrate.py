"""calibrate(): find the doses at which an edit reaches stated gains (or costs), on validation prompts only.

Every method gets the same search: a coarse log grid from below until the largest target is crossed or two doses running are
inadmissible (one alone may be the noise of a few texts), then bracketing of each target's first crossing by interpolation in
log dose. Ours.

What is matched is what the metric gives: a gain of the judge, or the divergence from the unedited model
(`evaluation.kl_metric`). With `suppress` the doses tried are negative, and the metric says how far the value fell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pandas as pd

from neva_tl.core.cards import card
from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing.base import Edit


@dataclass(frozen=True)
class DosePoint:
    """What a metric said about one dose.

    Attributes:
        gain: rise of the target value, in the judge's unit.
        invalid: share of invalid texts (0 where the judge reads none).
        extra: other columns for the dose table (leakage, perplexity, ...).
    """

    gain: float
    invalid: float = 0.0
    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """Doses found for each target gain.

    Attributes:
        doses: target gain -> dose, or None where no admissible dose reaches it.
        best: the admissible dose with the largest gain seen (what is shown when a target is out of reach).
        table: every dose tried: dose, gain, invalid, admissible and the metric's extra columns, ascending in size.
    """

    doses: Mapping[float, float | None]
    best: float | None
    table: pd.DataFrame

    def status(self, target: float) -> str:
        """`reached` or `unreached`."""
        return "unreached" if self.doses[target] is None else "reached"

    def require(self, target: float) -> float:
        """The dose of a target.

        Raises:
            InputError: the target was not asked for.
            WorkError: no admissible dose reaches it; says what was tried and how near it came.
        """
        if target not in self.doses:
            asked = ", ".join(f"{known:g}" for known in self.doses)
            raise InputError(f"target {target:g} was not calibrated: {asked} was")
        dose = self.doses[target]
        if dose is not None:
            return dose
        tried = self.table["dose"]
        span = f"doses {tried.iloc[0]:.4g} to {tried.iloc[-1]:.4g} were tried"
        if self.best is None:
            raise WorkError(
                f"target {target:g} is out of reach: every dose breaks the texts ({span}); try smaller doses"
            )
        near = float(self.table.loc[tried == self.best, "gain"].iloc[0])
        raise WorkError(
            f"target {target:g} is out of reach: at most {near:.3g}, at dose {self.best:.4g} ({span}); lower the target, or "
            "widen the grid where the largest dose is still admissible"
        )

    def _repr_html_(self) -> str:
        facts = {f"target {target:g}": "out of reach" if dose is None else dose for target, dose in self.doses.items()}
        return card("Calibration", facts | {"best admissible dose": self.best}, self.table)

    def show(self) -> Any:
        """Gain and invalid rate against dose, with targets and the doses found, as a matplotlib figure."""
        from neva_tl.plots import calibration_plot

        return calibration_plot(self.table, self.doses, title="Search for the dose (validation prompts)")


def calibrate(
    edit: Edit,
    metric: Callable[[Edit], DosePoint],
    targets: float | Sequence[float],
    *,
    grid: Sequence[float],
    base_invalid: float = 0.0,
    slack: float = 0.05,
    refine: int = 2,
    suppress: bool = False,
) -> Calibration:
    """Find the smallest admissible dose at which each target gain is reached.

    Args:
        edit: the edit; only its dose is changed.
        metric: scores an edit on validation prompts.
        targets: gains to reach, in the metric's unit.
        grid: ascending positive doses of the coarse search.
        base_invalid: invalid rate of the unedited model.
        slack: a dose is admissible when its invalid rate is at most `base_invalid + slack`.
        refine: evaluations spent on bracketing each target.
        suppress: search negative doses (`-grid`): edits against the value. The metric must then rise as the value falls.

    Raises:
        InputError: the grid is not ascending and positive, or a target is not above 0.
        WorkError: the metric returned a gain that is not finite.
    """
    (found,) = calibrate_many(
        [edit],
        lambda asked: [metric(item) for _, item in asked],
        targets,
        grid=grid,
        base_invalid=base_invalid,
        slack=slack,
        refine=refine,
        suppress=suppress,
    )
    return found


def calibrate_many(
    edits: Sequence[Edit],
    metric: Callable[[Sequence[tuple[int, Edit]]], Sequence[DosePoint]],
    targets: float | Sequence[float],
    *,
    grid: Sequence[float],
    base_invalid: float = 0.0,
    slack: float = 0.05,
    refine: int = 2,
    suppress: bool = False,
) -> list[Calibration]:
    """`calibrate` for several edits in step: what all of them ask next is scored in one call (one batch of texts, say).

    Args:
        edits: the edits; each is searched as if it were alone.
        metric: scores some of them, given as (place in `edits`, edit at its dose), in that order.
        targets, grid, base_invalid, slack, refine, suppress: as in `calibrate`.
    """
    searches = [_search(edit, targets, grid, base_invalid, slack, refine, suppress) for edit in edits]
    found: list[Calibration | None] = [None] * len(searches)
    asked = [(place, next(search)) for place, search in enumerate(searches)]
    while asked:
        points = metric(asked)
        if len(points) != len(asked):
            raise WorkError(f"the metric scored {len(points)} of {len(asked)} edits")
        pending = []
        for (place, _), point in zip(asked, points, strict=True):
            try:
                pending.append((place, searches[place].send(point)))
            except StopIteration as end:
                found[place] = end.value
        asked = pending
    return [one for one in found if one is not None]


def _search(
    edit: Edit,
    targets: float | Sequence[float],
    grid: Sequence[float],
    base_invalid: float,
    slack: float,
    refine: int,
    suppress: bool,
) -> Generator[Edit, DosePoint, Calibration]:
    """One search: yields the edits it wants scored, is sent their points, returns what it found."""
    wanted = sorted([targets] if isinstance(targets, (int, float)) else targets)
    if not wanted or not all(0 < target < math.inf for target in wanted):
        raise InputError(f"target gains must be above 0, not {wanted}")
    if not len(grid) or not all(0 < dose < math.inf for dose in grid) or any(b <= a for a, b in pairwise(grid)):
        raise InputError(f"a dose grid must be positive and ascending, not {list(grid)}")
    sign = -1.0 if suppress else 1.0
    seen: dict[float, DosePoint] = {}  # by size of dose

    def admissible(point: DosePoint) -> bool:
        return point.invalid <= base_invalid + slack + 1e-9

    def look(dose: float) -> Generator[Edit, DosePoint, DosePoint]:
        if dose not in seen:
            point = yield edit.with_dose(sign * dose)
            if not math.isfinite(point.gain):
                raise WorkError(f"the gain at dose {sign * dose:.4g} is not finite: the judge gave no score")
            seen[dose] = point
        return seen[dose]

    refused = 0
    for dose in grid:
        point = yield from look(float(dose))
        refused = 0 if admissible(point) else refused + 1
        if refused == 2 or (point.gain >= wanted[-1] and not refused):
            break
    for target in wanted:
        for _ in range(refine):
            bracket = _bracket(seen, target, admissible)
            if bracket is None or bracket[1] / max(bracket[0], 1e-9) < 1.05:
                break
            yield from look(_between(seen, bracket, target, float(grid[0])))
    doses: dict[float, float | None] = {}
    for target in wanted:  # after all searches: one target's refinement may have met another
        hits = [dose for dose, point in sorted(seen.items()) if admissible(point) and point.gain >= target]
        doses[target] = sign * hits[0] if hits else None
    good = {dose: point for dose, point in seen.items() if admissible(point)}
    best = max(good, key=lambda dose: good[dose].gain) if good else None
    table = pd.DataFrame(
        [
            {"dose": sign * dose, "gain": p.gain, "invalid": p.invalid, "admissible": admissible(p), **p.extra}
            for dose, p in sorted(seen.items())
        ]
    )
    return Calibration(doses, None if best is None else sign * best, table)


def _bracket(
    seen: Mapping[float, DosePoint], target: float, admissible: Callable[[DosePoint], bool]
) -> tuple[float, float] | None:
    """The doses around the first crossing of a target: the smallest admissible dose that reaches it and the one below.

    Where none reaches it: the first inadmissible dose and the one below (the target may lie between).
    """
    doses = sorted(seen)
    hit = next((d for d in doses if seen[d].gain >= target and admissible(seen[d])), None)
    end = hit if hit is not None else next((d for d in doses if not admissible(seen[d])), None)
    if end is None:
        return None
    return max((d for d in doses if d < end), default=0.0), end


def _between(seen: Mapping[float, DosePoint], bracket: tuple[float, float], target: float, floor: float) -> float:
    """A dose inside the bracket: linear in gain where both ends are known, kept off the ends, geometric otherwise."""
    low, high = bracket
    gain_low = seen[low].gain if low else 0.0
    gain_high = seen[high].gain
    share = 0.5
    if gain_high > gain_low and gain_high >= target:
        share = min(max((target - gain_low) / (gain_high - gain_low), 0.15), 0.85)
    if low <= 0:
        return high * max(share, 0.1) if share != 0.5 else max(high / 2, floor / 4)
    return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
