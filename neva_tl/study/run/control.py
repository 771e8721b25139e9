"""Positive control of a study: the role prompt's gain by the study's own measure, on the same test items.

Its cells are those of the method `role`, so that a study with that method measures nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.evaluation.measures.estimate import Estimate, interval, null
from neva_tl.evaluation.measures.headline import target_draws
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.study.report.control import CONTROL, is_measurable, needs_control
from neva_tl.study.run.comparison import stored_responses
from neva_tl.study.run.run_folder import RunFolder

#: Row of the table `controls` with the mean over values.
ALL = "all"


@dataclass(frozen=True)
class Controls:
    """Gain of the role prompt for each value and on average.

    Attributes:
        judge: Name of the judge.
        unit: Unit of the gains.
        gains: Value -> gain; without an estimate where the control was left out.
        mean: Mean gain over the values.
    """

    judge: str
    unit: str
    gains: dict[str, Estimate]
    mean: Estimate

    @property
    def measurable(self) -> tuple[str, ...]:
        """The values whose gain has an interval above 0."""
        return tuple(name for name, gain in self.gains.items() if is_measurable(gain.to_json()))

    def table(self) -> pd.DataFrame:
        """Return one row per value and one for their mean (`all`).

        Returns:
            Columns value, judge, unit, est, lo, hi (gain of the role prompt), n (items), measurable.
        """
        rows = [
            {"value": name, "judge": self.judge, "unit": self.unit}
            | {"est": gain.est, "lo": gain.lo, "hi": gain.hi, "n": gain.n, "measurable": is_measurable(gain.to_json())}
            for name, gain in (*self.gains.items(), (ALL, self.mean))
        ]
        return pd.DataFrame(rows).astype({"est": float, "lo": float, "hi": float})

    def to_json(self) -> dict[str, Any]:
        """Return the entry `controls` of results.json."""
        return {
            "method": CONTROL,
            "all": self.mean.to_json(),
            "values": {name: gain.to_json() for name, gain in self.gains.items()},
            "not_measurable": [name for name in self.gains if name not in self.measurable],
        }

    def gain_of(self, responses: Responses, *, seed: int, n_boot: int) -> Estimate | None:
        """Compute a method's mean gain over the measurable values; None where all of the values or none are measurable.

        Args:
            responses: Item scores of the method.
            seed: Seed of the bootstrap.
            n_boot: Bootstrap draws.
        """
        names = [name for name in responses.steered if name in self.measurable]
        if len(names) in (0, len(responses.steered)):
            return None
        draws = target_draws(responses.select(names), seed=seed, n_boot=n_boot).mean(axis=-1)
        return interval(draws[0], draws[1:], responses.n)


def control_cell(value: str) -> str:
    """Return the name of the cell of a value's control.

    Args:
        value: The value.
    """
    return f"cells/measure/{CONTROL}/{value}@None"  # the name of the method's cell: it has no target gain


def read_controls(
    store: RunFolder, steered: Sequence[str], *, judge: str, unit: str, seed: int, n_boot: int
) -> Controls | None:
    """Compute the controls from their cells; None for a judge that needs none.

    Args:
        store: The run folder.
        steered: Steered values.
        judge: Name of the judge.
        unit: Unit of its scores.
        seed: Seed of the bootstrap.
        n_boot: Bootstrap draws.
    """
    if not needs_control(judge):
        return None
    measured = [name for name in steered if store.has(f"{control_cell(name)}.json")]
    gains, mean = dict.fromkeys(steered, null()), null()
    if measured:
        responses = stored_responses(store, CONTROL, None, measured)
        assert responses is not None
        gains |= control_gains(responses, seed=seed, n_boot=n_boot)
        draws = target_draws(responses, seed=seed, n_boot=n_boot).mean(axis=-1)
        mean = interval(draws[0], draws[1:], responses.n)
    return Controls(judge, unit, gains, mean)


def control_gains(responses: Responses, *, seed: int, n_boot: int) -> dict[str, Estimate]:
    """Compute the gain of each value from the item scores under the role prompt.

    Args:
        responses: The item scores.
        seed: Seed of the bootstrap.
        n_boot: Bootstrap draws.
    """
    draws: np.ndarray = target_draws(responses, seed=seed, n_boot=n_boot)
    return {
        name: interval(draws[0, i], draws[1:, i], len(responses.base[responses.target[i]]))
        for i, name in enumerate(responses.steered)
    }
