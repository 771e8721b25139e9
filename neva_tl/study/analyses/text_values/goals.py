"""Goals of a text-judged study, evaluated by rule on its own figures.

The goals are fixed before the study: gain at least the role prompt's and the best vector's, with at most 1,000 neurons, an
invalid rate within .05 and texts of at most 1.3 times the unedited perplexity; leakage and divergence at most half a vector's at
equal validation gain; gain at least twice the role prompt's (the goal of the larger model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from neva_tl.core.formatting import finite_number, plain_interval
from neva_tl.core.method_records import find_method
from neva_tl.study.analyses.method_comparison import OURS
from neva_tl.study.analyses.text_values import tables
from neva_tl.study.analyses.text_values.conditions import JoinedRuns

#: Most neurons, largest rise of the invalid rate, largest perplexity ratio, largest NLR and KL ratio, least ratio of gains.
NEURONS, INVALID, PERPLEXITY, HALF, TWICE = 1000.0, 0.05, 1.3, 0.5, 2.0
#: Goals whose figure is a number of neurons or values.
COUNTS = ("most neurons of a value", "values whose positive control works")
#: Columns of a goal.
COLUMNS = ("goal", "ours", "rival", "values", "n_values", "figure", "lo", "hi", "bound", "verdict", "note")
Verdict = Literal["met", "met in the estimate", "missed in the estimate", "missed", "not measured"]


def verdict(est: float | None, lo: float | None, hi: float | None, bound: float, *, at_least: bool) -> Verdict:
    """Judge a figure against its bound.

    Args:
        est: The figure; None or NaN where it is undefined.
        lo: Lower limit of its interval; without an interval only the figure counts.
        hi: Upper limit of its interval.
        bound: The bound.
        at_least: True where the figure must be at least the bound, False where at most.

    Returns:
        `met` and `missed` where the whole interval lies on one side; otherwise the side of the estimate.

    Example:
        >>> verdict(0.3, 0.1, 0.6, 0.5, at_least=False)
        'met in the estimate'
    """
    point, low, high = (finite_number(x) for x in (est, lo, hi))
    if point is None:
        return "not measured"
    low, high = (point if low is None else low), (point if high is None else high)
    if not at_least:
        point, low, high, bound = -point, -high, -low, -bound
    if point >= bound:
        return "met" if low >= bound else "met in the estimate"
    return "missed" if high < bound else "missed in the estimate"


def goals(joined: JoinedRuns, equal: pd.DataFrame | None = None) -> pd.DataFrame:
    """Evaluate the goals of each of our methods.

    The goals on gains are those of the values whose positive control works, where there are some; the others of all values.

    Args:
        joined: The runs.
        equal: Table of `equal_validation_gain.joined_table`; None where no run was measured at equal validation gains.

    Returns:
        Columns goal, ours, rival, values (`all` or `measurable`), n_values, figure with lo and hi, bound, verdict, note (counts
        of values). Intervals are over prompts, seeds and values where there are three values, else over prompts and seeds.
    """
    values, pairs, each = tables.over_values(joined), tables.pairs(joined), tables.by_value(joined)
    rows: list[dict[str, Any]] = []
    for ours in (method for method in joined.methods if method in OURS):
        subset = "measurable" if (values["values"] == "measurable").any() else "all"
        rows += _gains(pairs, ours, subset)
        of_ours = each[each["method"] == ours]
        mean = values[(values["method"] == ours) & (values["values"] == "all")].iloc[0]
        rows.append(_neurons(ours, of_ours))
        rows.append(_invalid(ours, of_ours, mean))
        rows.append(_perplexity(ours, of_ours, mean))
        rows += _equal(equal, ours)
        rows += _beyond_control(joined, ours, of_ours)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def sentence(goal: Mapping[Any, Any]) -> str:
    """Write a goal as a line: `neva_shift: gain minus that of the role prompt (all, 2 values): 0.08 [0.02, 0.13], ...`.

    Args:
        goal: A row of `goals`.
    """
    scope = f" ({goal['values']}, {goal['n_values']} values)" if goal["n_values"] else ""
    counted = goal["goal"] in COUNTS and finite_number(goal["figure"]) is not None
    figure = f"{goal['figure']:,.0f}" if counted else plain_interval(*(goal[name] for name in ("figure", "lo", "hi")))
    bound = "" if finite_number(goal["bound"]) is None else f", bound {goal['bound']:,g}"
    note = f"; {goal['note']}" if goal["note"] else ""
    judged = f": {goal['verdict']}" if goal["verdict"] else ""
    return f"{goal['ours']}: {goal['goal']}{scope}: {figure}{bound}{judged}{note}"


def _row(goal: str, ours: str, figure: Any, bound: float | None, **fields: Any) -> dict[str, Any]:
    blank: dict[str, Any] = {"rival": "", "values": "all", "lo": None, "hi": None, "note": ""}
    return blank | {"goal": goal, "ours": ours, "figure": figure, "bound": bound} | fields


def _gains(pairs: pd.DataFrame, ours: str, subset: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    if not len(pairs):
        return rows
    of_ours = pairs[(pairs["ours"] == ours) & (pairs["values"] == subset)]
    for pair in of_ours.to_dict("records"):
        wide = finite_number(pair["difference_values_lo"]) is not None
        names = ("difference_values_lo", "difference_values_hi") if wide else ("difference_lo", "difference_hi")
        lo, hi = (pair[name] for name in names)
        counts = f"at least as much on {pair['at_least']} of {pair['n_values']} values, clearly more on {pair['above']}"
        counts += f", clearly less on {pair['below']}"
        scope = {"rival": pair["rival"], "values": subset, "n_values": pair["n_values"]}
        judged = verdict(pair["difference"], lo, hi, 0.0, at_least=True)
        rows.append(
            _row(f"gain minus that of {label(pair['rival'])}", ours, pair["difference"], 0.0, lo=lo, hi=hi, **scope)
            | {"verdict": judged, "note": counts}
        )
        if pair["rival"] == tables.CONTROL:
            ratio, lo, hi = (pair[name] for name in ("ratio", "ratio_lo", "ratio_hi"))
            judged = verdict(ratio, lo, hi, TWICE, at_least=True)
            goal = "gain over the role prompt's, goal of the larger model"
            rows.append(_row(goal, ours, ratio, TWICE, lo=lo, hi=hi, **scope) | {"verdict": judged})
    return rows


def label(method: str) -> str:
    """Return a rival's name in a sentence.

    Args:
        method: A method, or `tables.BEST`.
    """
    if method == tables.BEST:
        return "the best vector of each value"
    record = find_method(method)
    common = record.label[0].islower()  # "the role prompt", but "CAA"
    return f"the {record.label}" if common else record.label


def _neurons(ours: str, of_ours: pd.DataFrame) -> dict[str, Any]:
    most = of_ours["neurons"].max()
    judged = verdict(most, None, None, NEURONS, at_least=False)
    return _row(COUNTS[0], ours, most, NEURONS, n_values=len(of_ours), verdict=judged)


def _invalid(ours: str, of_ours: pd.DataFrame, mean: pd.Series) -> dict[str, Any]:
    rise = mean["invalid"] - mean["invalid_base"]
    within = int((of_ours["invalid"] - of_ours["invalid_base"] <= INVALID).sum())
    judged = verdict(rise, None, None, INVALID, at_least=False)
    note = f"within it on {within} of {len(of_ours)} values"
    return _row("rise of the invalid rate", ours, rise, INVALID, n_values=len(of_ours), verdict=judged, note=note)


def _perplexity(ours: str, of_ours: pd.DataFrame, mean: pd.Series) -> dict[str, Any]:
    ratio, lo, hi = (mean[f"perplexity_ratio{end}"] for end in ("", "_lo", "_hi"))
    within = int((of_ours["perplexity_ratio"] <= PERPLEXITY).sum())
    judged = verdict(ratio, lo, hi, PERPLEXITY, at_least=False)
    note = f"within it on {within} of {len(of_ours)} values"
    row = _row("perplexity of its texts over that of the unedited texts", ours, ratio, PERPLEXITY, lo=lo, hi=hi)
    return row | {"n_values": len(of_ours), "verdict": judged, "note": note}


def _equal(equal: pd.DataFrame | None, ours: str) -> list[dict[str, Any]]:
    if equal is None or not len(equal[equal["ours"] == ours]):
        note = "run analyses/equal_validation_gain.py on each run"
        names = ("NLR over a vector's at equal validation gain", "KL over a vector's at equal validation gain")
        return [_row(name, ours, None, HALF, n_values=0, verdict="not measured", note=note) for name in names]
    rows = []
    means = equal[(equal["ours"] == ours) & (equal["value"] == tables.ALL)]
    for pair in means.to_dict("records"):
        scope = {"rival": pair["rival"], "n_values": pair["n_values"]}
        test = f"test gains {pair['gain_ours']:.2f} and {pair['gain_rival']:.2f}"
        for name in ("nlr", "kl"):
            ratio, lo, hi = (pair[f"{name}_ratio{end}"] for end in ("", "_lo", "_hi"))
            judged = verdict(ratio, lo, hi, HALF, at_least=False)
            figures = (
                plain_interval(pair[f"{name}_ours"], None, None),
                plain_interval(pair[f"{name}_rival"], None, None),
            )
            note = f"{figures[0]} against {figures[1]}, {test}"
            if judged == "not measured":
                note = (
                    f"no ratio: that of {label(pair['rival'])} is within noise of 0, or there is no common gain; {note}"
                )
            goal = f"{name.upper()} over that of {label(pair['rival'])} at equal validation gain"
            rows.append(_row(goal, ours, ratio, HALF, lo=lo, hi=hi, **scope) | {"verdict": judged, "note": note})
    return rows


def _beyond_control(joined: JoinedRuns, ours: str, of_ours: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row that names the values that our edit moves and the role prompt does not."""
    measurable: Sequence[str] = tables.measurable_values(joined)
    if tables.CONTROL not in joined.methods:
        return []
    moved = of_ours[of_ours["gain_lo"] > 0]["value"]
    beyond = [value for value in moved if value not in measurable]
    missing = [value for value in joined.values if value not in measurable]
    note = f"measurable: {', '.join(measurable) or 'none'}; not measurable: {', '.join(missing) or 'none'}"
    note += f"; moved by the edit but not by the role prompt: {', '.join(beyond) or 'none'}"
    figure = float(len(measurable))
    row = _row(COUNTS[1], ours, figure, None, n_values=len(joined.values))
    return [row | {"verdict": "", "note": note}]
