"""Tables and results.json from finished cells, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.method_records import METHODS
from neva_tl.core.statistics import wilson
from neva_tl.evaluation.measures.estimate import Estimate
from neva_tl.evaluation.measures.result import LeakageResult
from neva_tl.study.report.control import needs_control

#: A missing measurement.
NOTHING = {"est": None, "lo": None, "hi": None, "n": 0}


def mean_m(values: Sequence[float | None], n: int = 0) -> dict[str, Any]:
    """Return the mean of finite numbers, as `{est, lo, hi, n}` without an interval.

    Args:
        values: Numbers; None is skipped.
        n: Number of observations to report; 0 counts the finite numbers.
    """
    finite_values = [float(v) for v in values if v is not None and np.isfinite(v)]
    return {
        "est": float(np.mean(finite_values)) if finite_values else None,
        "lo": None,
        "hi": None,
        "n": n or len(finite_values),
    }


def binomial_m(count: float, n: int) -> dict[str, Any]:
    """Return a share with its Wilson interval, as `{est, lo, hi, n}`.

    Args:
        count: Number of successes.
        n: Number of trials.
    """
    if n == 0:
        return dict(NOTHING)
    low, high = wilson(count, n)
    return {"est": count / n, "lo": low, "hi": high, "n": int(n)}


def method_entry(
    gate: str,
    target: float | None,
    result: LeakageResult,
    cells: Mapping[str, Mapping[str, Any]],
    base: Mapping[str, Any],
    gain_measurable: Estimate | None = None,
) -> dict[str, Any]:
    """Return the entry of one condition in results.json.

    Args:
        gate: Gate of the method.
        target: Matched gain; None for methods at their own gain.
        result: Leakage measures of the condition.
        cells: Record of the cell of each value (`dose`, `status`, `invalid`, `n_texts`, `capability`, `fluency`).
        base: The unedited model's record of the same kind.
        gain_measurable: Mean gain over the measurable values, where some are not (`controls.Controls.gain_of`).
    """
    record = METHODS.get(result.method)
    lender = None if record is None else record.dose_of
    # no target is searched for a placebo at another method's dose
    statuses = {name: f"dose of {lender}" if lender else cell["status"] for name, cell in cells.items()}
    n_texts = sum(cell["n_texts"] for cell in cells.values())
    invalid = sum(cell["invalid"] * cell["n_texts"] for cell in cells.values())
    metrics = sorted(base["capability"])
    per_value = {
        name: {
            "dose": cell["dose"],
            "status": statuses[name],
            "gain": result.gains[name].to_json(),
            "wrong_way": result.wrong_ways[name].to_json(),
            "leakage": result.leakages[name].to_json(),
            "csr_base": result.csr_base[name].to_json(),
            "csr": result.csr[name].to_json(),
            "invalid": binomial_m(cell["invalid"] * cell["n_texts"], cell["n_texts"]),
        }
        for name, cell in cells.items()
    }
    return {
        "gate": gate,
        "target_gain": target,
        "reached": reached(list(statuses.values())),
        "csr": result.csr_mean.to_json(),
        "csr_base": result.csr_base_mean.to_json(),
        "gain": result.gain.to_json(),
        **({} if gain_measurable is None else {"gain_measurable": gain_measurable.to_json()}),
        "wrong_way": result.wrong_way.to_json(),
        "leakage": result.leakage.to_json(),
        "nlr": result.nlr.to_json(),
        "nlr_plain": result.nlr_plain.to_json(),
        "ngl": result.ngl.to_json(),
        "circle": {"rho": result.circle.rho.to_json(), "p": result.circle.p},
        "invalid": binomial_m(invalid, n_texts),
        "fluency": {
            name: mean_m([cell["fluency"].get(name) for cell in cells.values()])
            for name in sorted({key for cell in cells.values() for key in cell["fluency"]})
        },
        "capability": {
            name: {
                "base": mean_m([base["capability"][name]]),
                "edited": mean_m([cell["capability"].get(name) for cell in cells.values()]),
            }
            for name in metrics
        },
        "per_value": per_value,
    }


def reached(statuses: Sequence[str]) -> str:
    """Count the values that reached the target gain at a dose of the method's own.

    Args:
        statuses: Status of each value.

    Returns:
        For example `7/10`; `own gain` for a method without a dose, `-` for one that takes another method's dose.
    """
    if all(status == "own gain" for status in statuses):
        return "own gain"
    if any(status.startswith("dose of") for status in statuses):
        return "-"
    return f"{sum(status == 'reached' for status in statuses)}/{len(statuses)}"


def method_row(entry: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Return a row of the `methods` table.

    Args:
        entry: The method's entry of results.json.
        method: Its name.
    """
    doses = [cell["dose"] for cell in entry["per_value"].values() if cell["dose"] is not None]
    capability = entry["capability"]

    def level(metric: str, when: str) -> float | None:
        return capability.get(metric, {}).get(when, NOTHING)["est"]

    row: dict[str, Any] = {
        "method": method,
        "gate": entry["gate"],
        "target_gain": entry["target_gain"],
        "reached": entry["reached"],
        "csr_base": entry["csr_base"]["est"],
    }
    for name in ("csr", "gain", "gain_measurable", "wrong_way", "leakage", "nlr", "ngl"):
        if name in entry:
            row |= {name: entry[name]["est"], f"{name}_lo": entry[name]["lo"], f"{name}_hi": entry[name]["hi"]}
    row["nlr_plain"] = entry["nlr_plain"]["est"]
    row |= {
        "invalid": entry["invalid"]["est"],
        "ppl_base": level("perplexity", "base"),
        "ppl": level("perplexity", "edited"),
        "kl": level("kl", "edited"),
        "acc_base": level("accuracy", "base"),
        "acc": level("accuracy", "edited"),
        "dose": float(np.median(doses)) if doses else None,
    }
    return row


def values_rows(entry: Mapping[str, Any], method: str) -> list[dict[str, Any]]:
    """Return the rows of the `values` table.

    Args:
        entry: The method's entry of results.json.
        method: Its name.
    """
    return [
        {
            "method": method,
            "gate": entry["gate"],
            "target_gain": entry["target_gain"],
            "steered": name,
            "dose": cell["dose"],
            "status": cell["status"],
            "gain": cell["gain"]["est"],
            "gain_lo": cell["gain"]["lo"],
            "gain_hi": cell["gain"]["hi"],
            "wrong_way": cell["wrong_way"]["est"],
            "wrong_way_lo": cell["wrong_way"]["lo"],
            "wrong_way_hi": cell["wrong_way"]["hi"],
            "leakage": cell["leakage"]["est"],
            "invalid": cell["invalid"]["est"],
            "csr_base": cell["csr_base"]["est"],
            "csr": cell["csr"]["est"],
        }
        for name, cell in entry["per_value"].items()
    ]


def headline(methods: pd.DataFrame, judge: str, unit: str) -> tuple[str, pd.DataFrame]:
    """Return a sentence about the headline table, and the table with its numbers as text.

    It has CSR, gain, NLR, NGL, invalid rate, capability before and after the edit, and the dose of each method. For judges that
    need a positive control it also has the mean gain over the measurable values, where some are not, and the share of items
    pushed the wrong way.

    Args:
        methods: The `methods` table.
        judge: Name of the judge.
        unit: Unit of the gains.
    """

    def number(x: Any, form: str = ".2f") -> str:
        return "-" if x is None or pd.isna(x) else format(x, form)

    def ranged(row: Any, name: str) -> str:
        value = number(row[name])
        low, high = row[f"{name}_lo"], row[f"{name}_hi"]
        return value if value == "-" or low is None or pd.isna(low) else f"{value} [{number(low)}, {number(high)}]"

    further = {"gain_measurable": "gain (measurable)", "wrong_way": "wrong way"} if needs_control(judge) else {}
    rows = []
    for _, row in methods.iterrows():
        rows.append(
            {
                "method": row["method"],
                "gate": row["gate"],
                "at gain": "own"
                if row["target_gain"] is None or pd.isna(row["target_gain"])
                else f"{row['target_gain']:.1f}",
                "reached": row["reached"],
                "CSR": f"{number(row['csr_base'])} -> {number(row['csr'])}",
                "gain": ranged(row, "gain"),
                **{label: ranged(row, name) for name, label in further.items() if name in methods},
                "NLR": ranged(row, "nlr"),
                "NLR plain": number(row["nlr_plain"]),
                "NGL": ranged(row, "ngl"),
                "invalid": number(row["invalid"]),
                "ppl": f"{number(row['ppl_base'])} -> {number(row['ppl'])}",
                "acc": f"{number(row['acc_base'])} -> {number(row['acc'])}",
                "KL": number(row["kl"], ".3f"),
                "dose": number(row["dose"]),
            }
        )
    note = f"NLR is - where {_why_undefined(methods)}"
    return f"judge: {judge}; unit of gain: {unit}; 95 % intervals over prompts; {note}", pd.DataFrame(rows)


def text_table(methods: pd.DataFrame, judge: str, unit: str) -> str:
    """Format the headline table as text (see `headline`).

    Args:
        methods: The `methods` table.
        judge: Name of the judge.
        unit: Unit of the gains.
    """
    head, table = headline(methods, judge, unit)
    return f"{head}\n{table.to_string(index=False)}"


def _why_undefined(methods: pd.DataFrame) -> str:
    """Return the reasons of the missing NLRs of a table; the usual one where none is missing."""
    from neva_tl.study.report.headline import undefined_nlr

    rows = methods[methods["nlr"].isna()].to_dict("records")
    entries = [{"gain": {"est": row["gain"], "lo": row["gain_lo"]}, "leakage": {"est": row["leakage"]}} for row in rows]
    reasons = dict.fromkeys(undefined_nlr(entry) for entry in entries)
    return " or ".join(reasons) or "the interval of the gain reaches 0"
