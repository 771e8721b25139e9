"""Tables of joined runs: a row per method and value, per method over the values, and per pair of methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.method_records import find_method
from neva_tl.evaluation.measures import formulas
from neva_tl.evaluation.measures.estimate import Estimate, interval, null
from neva_tl.evaluation.measures.headline import nlr
from neva_tl.study.analyses.method_comparison import OURS
from neva_tl.study.analyses.text_values.conditions import Condition, JoinedRuns
from neva_tl.study.analyses.text_values.resampling import MIN_VALUES, resampled_mean
from neva_tl.study.report.control import CONTROL

#: Costs that are averaged over values; perplexity ratios by their geometric mean.
COSTS = ("invalid", "kl", "perplexity_ratio")
#: Rival of `pairs` that is the best vector of each value, and the row of a mean over values.
BEST, ALL = "best vector", "all"
#: Value -> seed -> condition.
Cells = Mapping[str, Mapping[int, Condition]]


def by_value(joined: JoinedRuns) -> pd.DataFrame:
    """Tabulate each method and value.

    Args:
        joined: The runs.

    Returns:
        Columns method, family, value, seeds, n (texts of a seed), neurons, dose (mean over seeds), reached (seeds that reached
        the matched gain), gain and wrong_way with intervals over prompts (and seeds, where there are several), gain_min and
        gain_max over seeds, leakage, invalid, invalid_base, kl, perplexity, perplexity_base, perplexity_ratio, control (gain of
        the role prompt, with its interval) and measurable (its interval is above 0; NaN without a role prompt).
    """
    controls = control(joined)
    rows = []
    for method in joined.methods:
        for value, of_value in joined.of(method).items():
            seeds = list(of_value.values())
            gains = [float(one.gain[0]) for one in seeds]
            row: dict[str, Any] = {"method": method, "family": seeds[0].family, "value": value, "seeds": len(seeds)}
            row |= {"n": seeds[0].n, "neurons": _mean([one.neurons for one in seeds])}
            row |= {"dose": _mean([one.dose for one in seeds])}
            row["reached"] = sum(one.status == "reached" for one in seeds)
            cells = {value: of_value}
            row |= over_prompts(joined, cells, "gain").columns("gain")
            row |= {"gain_min": min(gains), "gain_max": max(gains)}
            row |= over_prompts(joined, cells, "wrong_way").columns("wrong_way")
            row["leakage"] = _mean([float(one.leakage[0]) for one in seeds])
            for name in ("invalid", "invalid_base", "kl", "perplexity", "perplexity_base", "perplexity_ratio"):
                row[name] = _mean([one.costs[name] for one in seeds])
            gain = controls.get(value, null())
            row |= gain.columns("control") | {"measurable": None if gain.lo is None else gain.lo > 0}
            rows.append(row)
    return pd.DataFrame(rows)


def over_values(joined: JoinedRuns) -> pd.DataFrame:
    """Tabulate each method over all of its values, and over the measurable ones where those are fewer.

    Args:
        joined: The runs.

    Returns:
        Columns method, values (`all` or `measurable`), n_values, seeds (conditions per value, `1` or `1-3`), gain, wrong_way and
        nlr with intervals over prompts (and seeds), gain_values_lo and gain_values_hi, nlr_values_lo and nlr_values_hi (over
        prompts, seeds and values; NaN below three values), invalid, invalid_base, kl and perplexity_ratio (geometric mean)
        with intervals over values.
    """
    steered, measurable = joined.values, measurable_values(joined)
    subsets: dict[str, Sequence[str]] = {"all": steered}
    if measurable and len(measurable) < len(steered):
        subsets["measurable"] = measurable
    rows = []
    for name, values in subsets.items():
        for method in joined.methods:
            cells = joined.of(method, values)
            if not cells:
                continue
            counts = sorted({len(of_value) for of_value in cells.values()})
            row: dict[str, Any] = {"method": method, "values": name, "n_values": len(cells)}
            row["seeds"] = f"{counts[0]}-{counts[-1]}" if len(counts) > 1 else str(counts[0])
            row |= over_prompts(joined, cells, "gain").columns("gain") | _wide(joined, cells, "gain")
            row |= over_prompts(joined, cells, "wrong_way").columns("wrong_way")
            ratio = nlr_of(joined, cells, over_values=False)
            row |= ratio.columns("nlr")
            wide = nlr_of(joined, cells, over_values=True) if len(cells) >= MIN_VALUES else null()
            row |= {"nlr_values_lo": wide.lo, "nlr_values_hi": wide.hi}
            for cost in COSTS:
                row |= cost_mean(joined, cells, cost).columns(cost)
            row["invalid_base"] = _mean([one.costs["invalid_base"] for of in cells.values() for one in of.values()])
            rows.append(row)
    table = pd.DataFrame(rows)
    return table.astype({c: float for c in table if c not in ("method", "values", "n_values", "seeds")})


def pairs(joined: JoinedRuns) -> pd.DataFrame:
    """Compare the gain of each of our methods with that of the role prompt and of each vector, value by value.

    Args:
        joined: The runs.

    Returns:
        Columns ours, rival (a method, or `best vector`: for each value the vector that gains most on its test prompts, which
        favours the rival), values (`all` or `measurable`), n_values, at_least (values on which ours gains at least as much),
        above and below (values on which the interval of the difference excludes 0), difference and ratio of the mean gains
        with intervals over prompts (and seeds), difference_values_lo and _hi (over prompts, seeds and values).
    """
    rows = []
    measurable = measurable_values(joined)
    subsets: dict[str, Sequence[str]] = {"all": joined.values}
    if measurable and len(measurable) < len(joined.values):
        subsets["measurable"] = measurable
    for ours in (method for method in joined.methods if method in OURS):
        for name, values in subsets.items():
            for rival in rivals(joined):
                theirs = best_vectors(joined, values) if rival == BEST else joined.of(rival, values)
                row = _pair(joined, joined.of(ours, values), theirs)
                if row is not None:
                    rows.append({"ours": ours, "rival": rival, "values": name} | row)
    return pd.DataFrame(rows)


def rivals(joined: JoinedRuns) -> tuple[str, ...]:
    """Return the role prompt and the vectors of the runs, and `BEST` where there are several vectors.

    Args:
        joined: The runs.
    """
    vectors = [method for method in joined.methods if find_method(method).family == "vectors"]
    role = [CONTROL] if CONTROL in joined.methods else []
    return (*role, *vectors, *([BEST] if len(vectors) > 1 else []))


def best_vectors(joined: JoinedRuns, values: Sequence[str]) -> dict[str, dict[int, Condition]]:
    """Return, for each value, the conditions of the vector with the largest mean gain on test prompts.

    Args:
        joined: The runs.
        values: The values.
    """
    best: dict[str, dict[int, Condition]] = {}
    for method in joined.methods:
        if find_method(method).family != "vectors":
            continue
        for value, cells in joined.of(method, values).items():
            if value not in best or _gain(cells) > _gain(best[value]):
                best[value] = cells
    return best


def control(joined: JoinedRuns) -> dict[str, Estimate]:
    """Return the gain of the role prompt for each value that it was measured on.

    Args:
        joined: The runs.
    """
    return {value: over_prompts(joined, {value: cells}, "gain") for value, cells in joined.of(CONTROL).items()}


def measurable_values(joined: JoinedRuns) -> tuple[str, ...]:
    """Return the values whose role prompt has a gain with an interval above 0.

    Args:
        joined: The runs.
    """
    gains = control(joined)
    return tuple(value for value in joined.values if value in gains and (gains[value].lo or 0) > 0)


def common(ours: Cells, theirs: Cells) -> tuple[dict[str, dict[int, Condition]], dict[str, dict[int, Condition]]]:
    """Restrict the conditions of two methods to their common values and seeds.

    Args:
        ours: Conditions of a method.
        theirs: Conditions of the other.
    """
    shared = {value: [seed for seed in cells if seed in theirs.get(value, {})] for value, cells in ours.items()}
    both = {value: seeds for value, seeds in shared.items() if seeds}
    a, b = ({v: {s: cells[v][s] for s in seeds} for v, seeds in both.items()} for cells in (ours, theirs))
    return a, b


def mean_draws(joined: JoinedRuns, cells: Cells, name: str, *, over_values: bool) -> Float[np.ndarray, " b"]:
    """Compute the mean of a statistic over values and seeds, on the data (row 0) and on draws.

    Args:
        joined: The runs.
        cells: The conditions.
        name: `gain`, `leakage` or `wrong_way`.
        over_values: Resample the values too.
    """
    draws = [[getattr(one, name) for one in of_value.values()] for of_value in cells.values()]
    return resampled_mean(draws, seed=joined.seed, over_values=over_values)


def over_prompts(joined: JoinedRuns, cells: Cells, name: str) -> Estimate:
    """Estimate a mean with its interval over prompts, and over seeds where a value has several.

    Args:
        joined: The runs.
        cells: The conditions.
        name: `gain`, `leakage` or `wrong_way`.
    """
    draws = mean_draws(joined, cells, name, over_values=False)
    return interval(draws[0], draws[1:], _n(cells), bounds=(0.0, 1.0) if name == "wrong_way" else None)


def nlr_of(joined: JoinedRuns, cells: Cells, *, over_values: bool) -> Estimate:
    """Estimate NLR, the summed leakage over the summed gain; undefined unless the interval of the gain is above 0.

    Args:
        joined: The runs.
        cells: The conditions.
        over_values: Resample the values too.
    """
    leak, gain = (mean_draws(joined, cells, name, over_values=over_values)[:, None] for name in ("leakage", "gain"))
    return nlr(leak, gain, _n(cells), 0.95)


def cost_mean(joined: JoinedRuns, cells: Cells, cost: str) -> Estimate:
    """Estimate a mean cost with its interval over values (and seeds); costs are not stored prompt by prompt.

    Args:
        joined: The runs.
        cells: The conditions.
        cost: `invalid`, `kl`, or `perplexity_ratio` (the geometric mean).
    """
    costs = {v: [one.costs[cost] for one in of.values()] for v, of in cells.items()}
    if any(number is None for numbers in costs.values() for number in numbers):
        return null(_n(cells))
    to: Callable[[Any], Any] = np.log if cost == "perplexity_ratio" else np.asarray
    back: Callable[[Any], Any] = np.exp if cost == "perplexity_ratio" else np.asarray
    draws = [[np.full(joined.n_boot + 1, float(to(number))) for number in numbers] for numbers in costs.values()]
    mean = back(resampled_mean(draws, seed=joined.seed, over_values=True))
    if len(cells) < MIN_VALUES:
        return Estimate(float(mean[0]), None, None, len(cells))
    return interval(float(mean[0]), mean[1:], len(cells))


def _pair(joined: JoinedRuns, ours: Cells, theirs: Cells) -> dict[str, Any] | None:
    a, b = common(ours, theirs)
    if not a:
        return None
    row: dict[str, Any] = {"n_values": len(a), "at_least": 0, "above": 0, "below": 0}
    for value in a:
        one, two = ({value: cells[value]} for cells in (a, b))
        difference = _difference(joined, one, two, over_values=False)
        row["at_least"] += int(difference.est is not None and difference.est >= 0)
        row["above"] += int(difference.lo is not None and difference.lo > 0)
        row["below"] += int(difference.hi is not None and difference.hi < 0)
    row |= _difference(joined, a, b, over_values=False).columns("difference")
    wide = _difference(joined, a, b, over_values=True) if len(a) >= MIN_VALUES else null()
    row |= {"difference_values_lo": wide.lo, "difference_values_hi": wide.hi}
    return row | ratio_of(joined, a, b).columns("ratio")


def ratio_of(joined: JoinedRuns, ours: Cells, theirs: Cells) -> Estimate:
    """Estimate the ratio of two mean gains; undefined unless the interval of the other's gain is above 0.

    Args:
        joined: The runs.
        ours: Conditions of a method.
        theirs: Those of the other, with the same values and seeds.
    """
    if not (over_prompts(joined, theirs, "gain").lo or 0) > 0:
        return null(_n(ours))
    draws = formulas.ratio(*(mean_draws(joined, cells, "gain", over_values=False) for cells in (ours, theirs)))
    return interval(draws[0], draws[1:], _n(ours))


def _difference(joined: JoinedRuns, ours: Cells, theirs: Cells, *, over_values: bool) -> Estimate:
    a, b = (mean_draws(joined, cells, "gain", over_values=over_values) for cells in (ours, theirs))
    return interval(a[0] - b[0], a[1:] - b[1:], _n(ours))


def _wide(joined: JoinedRuns, cells: Cells, name: str) -> dict[str, float | None]:
    if len(cells) < MIN_VALUES:
        return {f"{name}_values_lo": None, f"{name}_values_hi": None}
    draws = mean_draws(joined, cells, name, over_values=True)
    estimate = interval(draws[0], draws[1:], _n(cells))
    return {f"{name}_values_lo": estimate.lo, f"{name}_values_hi": estimate.hi}


def _gain(cells: Mapping[int, Condition]) -> float:
    return float(np.mean([one.gain[0] for one in cells.values()]))


def _n(cells: Cells) -> int:
    return max(one.n for of_value in cells.values() for one in of_value.values())


def _mean(numbers: Sequence[Any]) -> float:
    finite = [float(x) for x in numbers if x is not None and np.isfinite(x)]
    return float(np.mean(finite)) if len(finite) == len(numbers) and finite else float("nan")
