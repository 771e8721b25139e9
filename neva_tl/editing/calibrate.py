"""calibrate(): find the doses at which an edit reaches stated gains (or costs), on validation prompts only.

The search is the same for every method: a coarse log grid from below until the largest target is crossed or two doses in a row
are inadmissible (one alone may be the noise of a few texts), then bracketing of each target's first crossing by interpolation
in log dose. Ours.

The metric defines the matched quantity: a gain of the judge, or the divergence from the unedited model
(`evaluation.kl_metric`). With `suppress` the doses are negative, and the metric measures how far the value fell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pandas as pd

from neva_tl.core.arguments import check_arguments
from neva_tl.core.auto import grid_of_unit
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing.base import Edit


@dataclass(frozen=True)
class DosePoint:
    """Score of one dose.

    Attributes:
        gain: Rise of the target value, in the judge's unit.
        invalid: Share of invalid texts (0 where the judge reads no texts).
        extra: Further columns for the dose table (leakage, perplexity, ...).
    """

    gain: float
    invalid: float = 0.0
    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """Doses for each target gain.

    Attributes:
        doses: Target gain -> dose, or None where no admissible dose reaches it.
        best: Admissible dose with the largest observed gain (shown where a target is out of reach).
        table: Every dose tried: dose, gain, invalid, admissible and the metric's extra columns, ascending in size.
    """

    doses: Mapping[float, float | None]
    best: float | None
    table: pd.DataFrame

    def status(self, target: float) -> str:
        """`reached` or `unreached`.

        Args:
            target: A target gain of the search.
        """
        return "unreached" if self.doses[target] is None else "reached"

    def require(self, target: float) -> float:
        """The dose of a target.

        Args:
            target: A target gain of the search.

        Raises:
            InputError: The target was not part of the search.
            WorkError: No admissible dose reaches it; the message names the doses tried and the largest gain.
        """
        if target not in self.doses:
            calibrated = ", ".join(f"{gain:g}" for gain in self.doses)
            raise InputError(f"target {target:g} was not calibrated: {calibrated} was")
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
        """Matplotlib figure of gain and invalid rate against dose, with the targets and their doses."""
        from neva_tl.plots import calibration_plot

        return calibration_plot(self.table, self.doses, title="Search for the dose (validation prompts)")


@check_arguments
def calibrate(
    edit: Edit,
    metric: Callable[[Edit], DosePoint],
    targets: float | Sequence[float],
    *,
    grid: Sequence[float] | None = None,
    base_invalid: float = 0.0,
    slack: float = 0.05,
    refine: int = 2,
    suppress: bool = False,
) -> Calibration:
    """Find the smallest admissible dose at which each target gain is reached.

    Args:
        edit: The edit; only its dose changes.
        metric: Scores an edit on validation prompts.
        targets: Gains to reach, in the metric's unit.
        grid: Ascending positive doses of the coarse search; None takes the study's grid of the edit's unit.
        base_invalid: Invalid rate of the unedited model.
        slack: A dose is admissible when its invalid rate is at most `base_invalid + slack`.
        refine: Evaluations spent on bracketing each target.
        suppress: Search negative doses (`-grid`): edits against the value. The metric must then rise as the value falls.

    Raises:
        InputError: The grid is not ascending and positive, a target is not above 0, or the edit has no grid of its own.
        WorkError: The metric returned a gain that is not finite.
    """
    settings = _SearchSettings.of(targets, _grid(grid, [edit]), base_invalid, slack, refine, suppress)
    (calibration,) = _in_step([_Search(edit, settings)], lambda requests: [metric(item) for _, item in requests])
    return calibration


@check_arguments
def calibrate_many(
    edits: Sequence[Edit],
    metric: Callable[[Sequence[tuple[int, Edit]]], Sequence[DosePoint]],
    targets: float | Sequence[float],
    *,
    grid: Sequence[float] | None = None,
    base_invalid: float = 0.0,
    slack: float = 0.05,
    refine: int = 2,
    suppress: bool = False,
) -> list[Calibration]:
    """Calibrate several edits in step: one call of the metric scores the next dose of every search (one batch of texts).

    Args:
        edits: The edits; each search is independent of the others.
        metric: Scores some of them, passed as (index in `edits`, edit at its dose), in that order.
        targets: See `calibrate`.
        grid: See `calibrate`.
        base_invalid: See `calibrate`.
        slack: See `calibrate`.
        refine: See `calibrate`.
        suppress: See `calibrate`.

    Raises:
        InputError: See `calibrate`.
        WorkError: See `calibrate`; also where the metric returns another number of points than it was passed edits.
    """
    settings = _SearchSettings.of(targets, _grid(grid, edits), base_invalid, slack, refine, suppress)
    return _in_step([_Search(edit, settings) for edit in edits], metric)


def _grid(grid: Sequence[float] | None, edits: Sequence[Edit]) -> Sequence[float]:
    """The grid of a search: the requested one, else that of the edits' unit."""
    if grid is not None or not edits:
        return grid or ()
    units = {edit.unit for edit in edits}
    if len(units) > 1:
        raise InputError(f"edits with doses in {', '.join(sorted(units))} have no common grid: pass grid=...")
    return grid_of_unit(units.pop())


def _in_step(
    searches: Sequence[_Search], metric: Callable[[Sequence[tuple[int, Edit]]], Sequence[DosePoint]]
) -> list[Calibration]:
    """Run searches until all are finished, with one call of the metric per round."""
    runs = [search.run() for search in searches]
    requests = [(index, next(run)) for index, run in enumerate(runs)]
    while requests:
        points = metric(requests)
        if len(points) != len(requests):
            raise WorkError(f"the metric scored {len(points)} of {len(requests)} edits")
        pending = []
        for (index, _), point in zip(requests, points, strict=True):
            try:
                pending.append((index, runs[index].send(point)))
            except StopIteration:
                continue
        requests = pending
    return [search.result() for search in searches]


@dataclass(frozen=True)
class _SearchSettings:
    """Checked settings of a search.

    Attributes:
        targets: Gains to reach, ascending.
        grid: Ascending positive doses.
        most_invalid: Largest invalid rate of an admissible dose.
        refine: Evaluations per target.
        sign: -1 where negative doses are searched, else 1.
    """

    targets: tuple[float, ...]
    grid: tuple[float, ...]
    most_invalid: float
    refine: int
    sign: float

    @classmethod
    def of(
        cls,
        targets: float | Sequence[float],
        grid: Sequence[float],
        base_invalid: float,
        slack: float,
        refine: int,
        suppress: bool,
    ) -> _SearchSettings:
        """Settings from the arguments of `calibrate`."""
        gains = sorted([targets] if isinstance(targets, (int, float)) else targets)
        if not gains or not all(0 < target < math.inf for target in gains):
            raise InputError(f"target gains must be above 0, not {gains}")
        if not len(grid) or not all(0 < dose < math.inf for dose in grid) or any(b <= a for a, b in pairwise(grid)):
            raise InputError(f"a dose grid must be positive and ascending, not {list(grid)}")
        return cls(
            tuple(gains), tuple(map(float, grid)), base_invalid + slack + 1e-9, refine, -1.0 if suppress else 1.0
        )


class _Search:
    """The dose search of one edit: a generator of edits to score, and the points scored so far."""

    def __init__(self, edit: Edit, settings: _SearchSettings) -> None:
        self._edit, self._settings = edit, settings
        self._points: dict[float, DosePoint] = {}  # by size of the dose

    def run(self) -> Generator[Edit, DosePoint, None]:
        """Yield edits to score, and receive their points."""
        yield from self._coarse()
        for target in self._settings.targets:
            yield from self._refined(target)

    def _coarse(self) -> Generator[Edit, DosePoint, None]:
        """Go up the grid until the largest target is reached, or two doses in a row are inadmissible."""
        refused = 0
        for dose in self._settings.grid:
            point = yield from self._scored(float(dose))
            refused = 0 if self._admissible(point) else refused + 1
            if refused == 2 or (point.gain >= self._settings.targets[-1] and not refused):
                return

    def _refined(self, target: float) -> Generator[Edit, DosePoint, None]:
        """Narrow the bracket around the first crossing of a target."""
        for _ in range(self._settings.refine):
            bracket = _bracket(self._points, target, self._admissible)
            if bracket is None or bracket[1] / max(bracket[0], 1e-9) < 1.05:
                return
            yield from self._scored(_between(self._points, bracket, target, float(self._settings.grid[0])))

    def _scored(self, dose: float) -> Generator[Edit, DosePoint, DosePoint]:
        """The point of a dose, scored once."""
        if dose not in self._points:
            signed = self._settings.sign * dose
            point = yield self._edit.with_dose(signed)
            if not math.isfinite(point.gain):
                raise WorkError(f"the gain at dose {signed:.4g} is not finite: the judge gave no score")
            self._points[dose] = point
        return self._points[dose]

    def _admissible(self, point: DosePoint) -> bool:
        return point.invalid <= self._settings.most_invalid

    def result(self) -> Calibration:
        """Doses from all points: the refinement of one target may have reached another."""
        sign, points = self._settings.sign, sorted(self._points.items())
        good = {dose: point for dose, point in self._points.items() if self._admissible(point)}
        doses: dict[float, float | None] = {}
        for target in self._settings.targets:
            hits = [dose for dose, point in good.items() if point.gain >= target]
            doses[target] = sign * min(hits) if hits else None
        best = max(good, key=lambda dose: good[dose].gain) if good else None
        table = pd.DataFrame(
            [
                {
                    "dose": sign * dose,
                    "gain": p.gain,
                    "invalid": p.invalid,
                    "admissible": self._admissible(p),
                    **p.extra,
                }
                for dose, p in points
            ]
        )
        return Calibration(doses, None if best is None else sign * best, table)


def _bracket(
    points: Mapping[float, DosePoint], target: float, admissible: Callable[[DosePoint], bool]
) -> tuple[float, float] | None:
    """The doses around the first crossing of a target: the smallest admissible dose that reaches it and the one below.

    Where none reaches it: the first inadmissible dose and the one below (the target may lie between).
    """
    doses = sorted(points)
    hit = next((d for d in doses if points[d].gain >= target and admissible(points[d])), None)
    end = hit if hit is not None else next((d for d in doses if not admissible(points[d])), None)
    if end is None:
        return None
    return max((d for d in doses if d < end), default=0.0), end


def _between(points: Mapping[float, DosePoint], bracket: tuple[float, float], target: float, floor: float) -> float:
    """A dose inside the bracket: linear in gain where both ends are known, away from the ends, geometric otherwise."""
    low, high = bracket
    gain_low = points[low].gain if low else 0.0
    gain_high = points[high].gain
    share = 0.5
    if gain_high > gain_low and gain_high >= target:
        share = min(max((target - gain_low) / (gain_high - gain_low), 0.15), 0.85)
    if low <= 0:
        return high * max(share, 0.1) if share != 0.5 else max(high / 2, floor / 4)
    return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
