"""calibrate() on metrics whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing import AddVector, Calibration, DosePoint, calibrate, calibrate_many

pytestmark = pytest.mark.core

EDIT = AddVector({0: np.ones(2)})
GRID = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def run(
    gain: Callable[[float], float], targets: Any, invalid: Callable[[float], float] = lambda dose: 0.0, **options: Any
) -> tuple[Calibration, list[float]]:
    asked: list[float] = []

    def metric(item: Any) -> DosePoint:
        asked.append(item.dose)
        return DosePoint(gain(item.dose), invalid(item.dose), {"cost": item.dose**2})

    return calibrate(EDIT, metric, targets, **{"grid": GRID, **options}), asked


def test_finds_the_crossing_of_a_monotone_metric() -> None:
    for target in (0.05, 0.2, 0.4):
        for gain, inverse in (
            (lambda d: 0.1 * d, lambda t: 10 * t),
            (lambda d: 1 - math.exp(-d), lambda t: -math.log1p(-t)),
        ):
            found, asked = run(gain, target, refine=6)
            dose = found.doses[target]
            assert dose is not None and gain(dose) >= target
            assert inverse(target) <= dose <= 1.15 * inverse(target)
            assert len(asked) == len(set(asked)), "a dose is looked at once"


def test_evaluations_are_bounded_and_tabled() -> None:
    found, asked = run(lambda d: 0.1 * d, [0.2, 0.4], refine=2)
    assert len(asked) <= len(GRID) + 2 * 2
    assert max(asked) <= 4.0, "the grid is left once the largest target is crossed"
    assert found.table["dose"].tolist() == sorted(asked)
    assert found.table.columns.tolist() == ["dose", "gain", "invalid", "admissible", "cost"]
    assert found.table["cost"].tolist() == pytest.approx([d**2 for d in sorted(asked)])


def test_first_crossing_of_a_metric_that_falls_again() -> None:
    """Rises to its peak at dose 2 and falls: the dose before the peak is wanted."""
    found, _ = run(lambda d: 0.5 * math.exp(-(math.log(d / 2) ** 2)), 0.3, refine=5)
    crossing = 2 * math.exp(-math.sqrt(math.log(0.5 / 0.3)))
    assert found.doses[0.3] == pytest.approx(crossing, rel=0.1) and found.doses[0.3] >= crossing


def test_inadmissible_doses_are_never_returned() -> None:
    found, _ = run(lambda d: 0.1 * d, [0.2, 0.6], invalid=lambda d: 0.02 * d, refine=4)
    assert found.doses[0.2] is not None and 0.02 * found.doses[0.2] <= 0.05
    assert found.doses[0.6] is None and (found.status(0.2), found.status(0.6)) == ("reached", "unreached")
    assert found.best is not None and 0.02 * found.best <= 0.05 + 1e-9
    good = found.table[found.table["admissible"]]
    assert found.best == good.loc[good["gain"].idxmax(), "dose"]
    # the model's own invalid rate counts: the same metric passes on a model that was as bad before
    again, _ = run(lambda d: 0.1 * d, 0.6, invalid=lambda d: 0.02 * d, base_invalid=0.2, refine=4)
    assert again.doses[0.6] is not None


def test_out_of_reach() -> None:
    found, asked = run(lambda d: 0.01 * d, 0.5)
    assert found.doses[0.5] is None and found.best == GRID[-1] and len(asked) == len(GRID)
    nothing, _ = run(lambda d: 1.0, 0.5, invalid=lambda d: 1.0)
    assert nothing.doses[0.5] is None and nothing.best is None


@pytest.mark.parametrize("targets", [0.0, -0.1, [], [0.2, 0.0], float("nan"), [0.2, float("inf")]])
def test_bad_targets(targets: Any) -> None:
    with pytest.raises(InputError, match="target"):
        run(lambda d: d, targets)


@pytest.mark.parametrize(
    "grid", [(), (0.0, 1.0), (-1.0, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, math.nan), (1.0, math.inf)]
)
def test_bad_grids(grid: Any) -> None:
    with pytest.raises(InputError, match="grid"):
        run(lambda d: d, 0.2, grid=grid)


def test_a_judge_without_scores_is_an_error() -> None:
    with pytest.raises(WorkError, match="not finite"):
        run(lambda d: math.nan, 0.2)


@settings(max_examples=50, deadline=None)
@given(
    gains=st.lists(st.floats(-1, 1), min_size=4, max_size=12),
    invalid=st.lists(st.floats(0, 0.2), min_size=4, max_size=12),
    targets=st.lists(st.floats(0.01, 0.9), min_size=1, max_size=3),
    refine=st.integers(0, 5),
)
def test_whatever_the_metric_a_returned_dose_is_admissible_and_reaches(
    gains: list[float], invalid: list[float], targets: list[float], refine: int
) -> None:
    """Any bumpy metric, piecewise linear in log dose."""

    def bend(points: list[float]) -> Callable[[float], float]:
        at = np.linspace(math.log(0.05), math.log(10), len(points))
        return lambda dose: float(np.interp(math.log(dose), at, points))

    gain, bad = bend(gains), bend(invalid)
    found, asked = run(gain, targets, invalid=bad, refine=refine)
    assert len(asked) == len(set(asked)) <= len(GRID) + refine * len(targets)
    assert all(0 < dose <= GRID[-1] for dose in asked)
    for target in targets:
        dose = found.doses[target]
        reaching = [d for d in asked if bad(d) <= 0.05 + 1e-9 and gain(d) >= target]
        assert dose == (min(reaching) if reaching else None)
    if found.best is not None:
        assert bad(found.best) <= 0.05 + 1e-9


def test_one_inadmissible_dose_alone_does_not_end_the_search() -> None:
    """A dose refused by the noise of a few texts: the next one may still reach the target; two running end the grid."""
    found, tried = run(lambda d: d / 10, 0.4, lambda d: float(d == 2.0), refine=0)
    assert found.doses[0.4] == 4.0 and tried == [0.25, 0.5, 1.0, 2.0, 4.0]
    found, tried = run(lambda d: d / 10, 0.8, lambda d: float(d in (1.0, 2.0)), refine=0)
    assert found.doses[0.8] is None and found.best == 0.5 and tried == [0.25, 0.5, 1.0, 2.0]


def test_a_target_is_refined_below_the_dose_that_reaches_it() -> None:
    """Not around an inadmissible dose that lies further down."""
    found, tried = run(lambda d: d / 10, 0.4, lambda d: float(d == 1.0), refine=1)
    assert 2.0 < tried[-1] < 4.0 and found.doses[0.4] == 4.0


def test_searches_in_step_find_what_each_finds_alone() -> None:
    """Three edits of unlike response, scored in common calls: same dose tables, and fewer calls than points."""
    slopes = (0.02, 0.1, 0.5)
    calls: list[int] = []

    def point(place: int, dose: float) -> DosePoint:
        return DosePoint(slopes[place] * dose, 0.04 * dose / (place + 1))

    def together(asked: Any) -> list[DosePoint]:
        calls.append(len(asked))
        return [point(place, item.dose) for place, item in asked]

    found = calibrate_many([EDIT] * 3, together, (0.1, 0.4), grid=GRID)
    for place, one in enumerate(found):
        alone = calibrate(EDIT, lambda item, place=place: point(place, item.dose), (0.1, 0.4), grid=GRID)
        assert one.doses == alone.doses and one.best == alone.best
        pd.testing.assert_frame_equal(one.table, alone.table)
    assert len(calls) < sum(len(one.table) for one in found) and calls[0] == 3
    assert calibrate_many([], together, 0.1, grid=GRID) == []
    with pytest.raises(WorkError, match="scored 1 of 3"):
        calibrate_many([EDIT] * 3, lambda asked: [DosePoint(0.1)], 0.1, grid=GRID)


def test_suppression_searches_negative_doses() -> None:
    """The mirror image of the search upward: same sizes tried, doses negative, targets are falls."""
    up, asked_up = run(lambda d: 0.1 * d, [0.2, 0.4], invalid=lambda d: 0.005 * d, refine=4)
    down, asked = run(lambda d: -0.1 * d, [0.2, 0.4], invalid=lambda d: -0.005 * d, refine=4, suppress=True)
    assert asked == [-dose for dose in asked_up] and max(asked) < 0
    assert down.doses == {target: -dose for target, dose in up.doses.items() if dose is not None}
    assert down.best == -up.best  # type: ignore[operator]
    assert down.table["dose"].tolist() == [-dose for dose in up.table["dose"]]
    assert down.table["gain"].tolist() == up.table["gain"].tolist()


def test_require_says_what_was_tried() -> None:
    found, _ = run(lambda d: 0.01 * d, [0.05, 0.5])
    assert found.require(0.05) == found.doses[0.05]
    with pytest.raises(WorkError) as error:
        found.require(0.5)
    line = str(error.value)
    assert "target 0.5 is out of reach: at most 0.08, at dose 8" in line and "0.25 to 8" in line and "\n" not in line
    with pytest.raises(InputError, match=r"0\.3 was not calibrated: 0\.05, 0\.5 was"):
        found.require(0.3)
    broken, _ = run(lambda d: 1.0, 0.5, invalid=lambda d: 1.0)
    with pytest.raises(WorkError, match="every dose breaks the texts"):
        broken.require(0.5)
