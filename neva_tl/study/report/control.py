"""Positive control of a study's measure, and its wording.

The control is the gain of the role prompt, an instruction that names the value, on the same test items. A measure that does not
respond to it cannot show whether an edit works.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neva_tl.core.formatting import plain_interval
from neva_tl.study.report.numbers import finite, measure

#: Registered method that serves as the positive control.
CONTROL = "role"
#: Judge that needs no control: it knows the truth of the demo model's world, so that a gain of 0 is a fact about the model.
EXACT = "exact"


def needs_control(judge: str) -> bool:
    """Return whether a judge needs a positive control: all but the exact judge of the demo model (see `EXACT`).

    Args:
        judge: Name of the judge.
    """
    return judge != EXACT


def is_measurable(gain: Mapping[str, Any] | None) -> bool:
    """Return whether the interval of the role prompt's gain is above 0; a gain without an interval is not.

    Args:
        gain: The gain, `{est, lo, hi, n}`; None where it was not measured.
    """
    low = finite(gain.get("lo")) if gain else None
    return low is not None and low > 0


def controls_of(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the controls of a run, for older runs from the method `role` where they measured it.

    Args:
        results: Content of results.json.

    Returns:
        `all` (mean gain), `values` (value -> gain) and `not_measurable` (names); None where the judge needs no control or the
        run has none.
    """
    if not needs_control(str(results.get("judge"))):
        return None
    stored = results.get("controls")
    if isinstance(stored, Mapping):
        return dict(stored)
    role = results.get("methods", {}).get(CONTROL) or {}
    gains = {name: cell.get("gain") for name, cell in role.get("per_value", {}).items()}
    if not gains:
        return None
    return {
        "all": role.get("gain"),
        "values": gains,
        "not_measurable": [name for name, gain in gains.items() if not is_measurable(gain)],
    }


def not_measurable(results: Mapping[str, Any]) -> str:
    """Name the values that the judge cannot measure: `not measurable by logprob: power`; empty where there are none.

    Args:
        results: Content of results.json.
    """
    controls = controls_of(results)
    if controls is None or not controls["not_measurable"]:
        return ""
    names, n = controls["not_measurable"], len(controls["values"])
    text = ", ".join(names) if len(names) < n or n == 1 else f"all {n} values ({', '.join(names)})"
    return f"not measurable by {results.get('judge')}: {text}"


def caveat(results: Mapping[str, Any]) -> str:
    """Return `not_measurable` in brackets, for a sentence that makes a claim about the values; empty where all are measurable.

    Args:
        results: Content of results.json.
    """
    text = not_measurable(results)
    return f" ({text})" if text else ""


def control_line(results: Mapping[str, Any], *, plain: bool = True) -> str:
    """Write the gain of the role prompt and the values that are not measurable; empty where the run has no control.

    Args:
        results: Content of results.json.
        plain: Write the numbers as printed tables do, else as the report does.
    """
    controls = controls_of(results)
    if controls is None:
        return ""
    gain, n = controls["all"] or {}, len(controls["values"])
    numbers = plain_interval(gain.get("est"), gain.get("lo"), gain.get("hi")) if plain else measure(gain)
    mean = f" (mean of {n} values)" if n > 1 else ""
    every = "every value is" if n > 1 else f"{next(iter(controls['values']))} is"
    rest = not_measurable(results) or f"{every} measurable by {results.get('judge')}"
    return f"positive control: the role prompt gains {numbers}{mean}; {rest}"
