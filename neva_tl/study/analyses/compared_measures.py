"""Headline measures of two runs at their common conditions, with paired differences where the items are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.evaluation.measures import formulas
from neva_tl.evaluation.measures.cluster_sums import cluster_sums
from neva_tl.evaluation.measures.estimate import Estimate, interval, null
from neva_tl.evaluation.measures.headline import SPLITS, draw, level_draws, nlr
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.study.analyses.reopened_run import Run
from neva_tl.study.report.numbers import finite
from neva_tl.study.run.comparison import stored_responses

#: Columns of the table `methods` without an interval, compared as they are.
COSTS = ("invalid", "ppl", "kl", "acc")
#: Method and target gain (None without a dose).
Condition = tuple[str, float | None]


class MeasuredPair:
    """Headline measures of two runs at their common conditions.

    Args:
        runs: Both runs.
        values: Values that both steer.
        same_items: Whether both measured the same items.
        same_values: Whether both steer the same values, so that means of their tables can be compared.
        judge: Judge of both.
        unit: Unit of both.
    """

    def __init__(
        self, runs: tuple[Run, Run], values: Sequence[str], same_items: bool, same_values: bool, judge: str, unit: str
    ) -> None:
        self.runs, self.values = runs, list(values)
        self.same_items, self.same_values = same_items, same_values
        self.judge, self.unit = judge, unit
        self.paired = False

    def tables(self, *, n_boot: int, seed: int, notes: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return `Comparison.measures` and `Comparison.per_value`.

        Args:
            n_boot: Bootstrap draws.
            seed: Seed of the draws.
            notes: List that gets a sentence per thing that cannot be compared.
        """
        methods = [run.store.read_table("tables/methods") for run in self.runs]
        rows_of = [{_key(row): row for row in table.to_dict("records")} for table in methods]
        common = [key for key in rows_of[0] if key in rows_of[1]]
        for keys, others, run in zip(rows_of, rows_of[::-1], self.runs, strict=True):
            if alone := dict.fromkeys(_label(key) for key in keys if key not in others):
                notes.append(f"Conditions that only {run.store.root.resolve().name} measured: {', '.join(alone)}.")
        measures: list[dict[str, Any]] = []
        per_value: list[dict[str, Any]] = []
        for key in common:
            row_a, row_b = rows_of[0][key], rows_of[1][key]
            head = {"method": key[0], "gate_a": row_a.get("gate"), "gate_b": row_b.get("gate"), "target_gain": key[1]}
            both = self._responses(key, notes)
            if both is not None:
                compared = _estimates(both, self.same_items, n_boot=n_boot, seed=seed)
                self.paired |= compared[2]
                measures += [head | {"measure": name} | columns for name, columns in compared[0].items()]
                per_value += [
                    {"method": key[0], "target_gain": key[1], "value": value} | columns
                    for value, columns in compared[1].items()
                ]
            if self.same_values:
                measures += [head | {"measure": name} | _plain(row_a, row_b, name) for name in COSTS]
        columns = [f"{side}{end}" for side in ("a", "b", "difference") for end in ("", "_lo", "_hi")]
        measures_df = pd.DataFrame(
            measures, columns=["method", "gate_a", "gate_b", "target_gain", "measure", *columns]
        ).astype(dict.fromkeys(["target_gain", *columns], float))
        per_value_df = pd.DataFrame(per_value, columns=["method", "target_gain", "value", *columns]).astype(
            dict.fromkeys(["target_gain", *columns], float)
        )
        return measures_df[measures_df[["a", "b"]].notna().any(axis=1)].reset_index(drop=True), per_value_df

    def _responses(self, key: Condition, notes: list[str]) -> tuple[Responses, Responses] | None:
        method, target = key
        both = []
        for run in self.runs:
            try:
                responses = stored_responses(run.store, method, target, self.values, judge=self.judge, unit=self.unit)
            except InputError as error:
                notes.append(f"{_label(key)}: {error}.")
                return None
            if responses is None:
                return None
            both.append(responses)
        return both[0], both[1]


def _key(row: Mapping[Any, Any]) -> Condition:
    return str(row["method"]), finite(row.get("target_gain"))


def _label(key: Condition) -> str:
    return key[0] if key[1] is None else f"{key[0]} at {key[1]:g}"


def _plain(row_a: Mapping[Any, Any], row_b: Mapping[Any, Any], name: str) -> dict[str, float | None]:
    """Both numbers of a cost and their difference, without intervals."""
    a, b = finite(row_a.get(name)), finite(row_b.get(name))
    return {"a": a, "b": b, "difference": None if a is None or b is None else b - a}


def _estimates(
    both: tuple[Responses, Responses], same_items: bool, *, n_boot: int, seed: int
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]], bool]:
    """Return the columns per measure and per value, and whether their differences are paired."""
    sides = [_draws(responses, n_boot=n_boot, seed=seed) for responses in both]
    paired = same_items and both[0].values == both[1].values and _same_clusters(*both)
    n = both[0].n
    measures: dict[str, dict[str, Any]] = {}
    for name, kinked in (("gain", False), ("csr", False), ("leakage", True)):
        a, b = (side[name].mean(axis=-1) for side in sides)
        measures[name] = _columns(a, b, (both[0].n, both[1].n), kinked, paired)
    ratios = [nlr(side["leakage"], side["gain"], one.n, 0.95) for side, one in zip(sides, both, strict=True)]
    gap = null(n)
    if paired and all(one.est is not None for one in ratios):
        tops = [formulas.ratio(side["leakage"].sum(axis=-1), side["gain"].sum(axis=-1)) for side in sides]
        with np.errstate(invalid="ignore"):
            difference = tops[1] - tops[0]
        gap = interval(difference[0], difference[1:], n, recentre=True)
    elif all(one.est is not None for one in ratios):
        gap = Estimate(float(ratios[1].est or 0.0) - float(ratios[0].est or 0.0), None, None, n)
    measures["nlr"] = ratios[0].columns("a") | ratios[1].columns("b") | gap.columns("difference")
    steered = both[0].steered
    per_value = {
        value: _columns(
            sides[0]["gain"][:, i],
            sides[1]["gain"][:, both[1].steered.index(value)],
            (both[0].n, both[1].n),
            False,
            paired,
        )
        for i, value in enumerate(steered)
        if value in both[1].steered
    }
    return measures, per_value, paired


def _draws(responses: Responses, *, n_boot: int, seed: int) -> dict[str, np.ndarray]:
    """Gain, CSR and cross-fitted leakage per draw (row 0 is the data) and steered value."""
    drawn = draw(responses, seed=seed, n_boot=n_boot, n_splits=SPLITS)
    return {
        "gain": formulas.gain(drawn.d, responses.target),
        "csr": level_draws(responses, seed=seed, n_boot=n_boot, edited=True),
        "leakage": formulas.off_target_mean(drawn.positive, responses.target),
    }


def _same_clusters(a: Responses, b: Responses) -> bool:
    sums_a, sums_b = cluster_sums(a), cluster_sums(b)
    return (
        sums_a.names == sums_b.names and a.shared == b.shared and [len(x) for x in a.base] == [len(x) for x in b.base]
    )


def _columns(a: np.ndarray, b: np.ndarray, n: tuple[int, int], kinked: bool, paired: bool) -> dict[str, Any]:
    """Estimates of both runs and of their difference, from draws; the difference has an interval only where paired."""
    first, second = (interval(one[0], one[1:], count, recentre=kinked) for one, count in zip((a, b), n, strict=True))
    gap = b - a if paired else None
    difference = (
        interval(gap[0], gap[1:], n[0], recentre=kinked)
        if gap is not None
        else Estimate(None if first.est is None or second.est is None else second.est - first.est, None, None, n[0])
    )
    return first.columns("a") | second.columns("b") | difference.columns("difference")
