"""The main results as booktabs tables: the cells are those of the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.formatting import DASH, fixed, interval
from neva_tl.plots.layer_profile import pick_method
from neva_tl.plots.style import at_gain, method_label, present_values
from neva_tl.study.paper.latex import escape, listed, table
from neva_tl.study.paper.sources import Sources
from neva_tl.study.report import tables as report_tables

#: Columns of the report's tables (their labels) that a paper's tables have.
RESULTS = ("method", "gate", "at gain", "reached", "gain", "wrong way", "leakage", "NLR")
COST = ("method", "at gain", "invalid", "perplexity", "KL", "accuracy", "dose")
PER_VALUE = ("steered", "dose", "status", "gain", "wrong way", "leakage", "invalid")
#: Columns of text, aligned left.
TEXT = ("method", "gate", "steered", "value")
#: End of a caption of intervals.
INTERVALS = "Brackets: 95~\\% intervals over test prompts, which do not cover selection or the search for doses."


def results(sources: Sources) -> str:
    """Build the table of gain and leakage of all conditions.

    Args:
        sources: The run.
    """
    cells = report_tables.methods(sources.tables["methods"])
    wrong_way = (
        " Wrong way: share of test items whose score the edit lowers (.5: no direction)."
        if _has(cells, "wrong way")
        else ""
    )
    nlr = " NLR: summed leakage over summed gain; --: not defined." if _has(cells, "NLR") else ""
    caption = (
        f"Gain and leakage of {len(sources.methods)} methods on {_model(sources)}, "
        f"judge {escape(sources.results.get('judge'))} ({escape(sources.results.get('unit'))}), "
        f"{_values(sources)}. Gain: change of the steered value's score, mean over values. Leakage: mean rise of the other "
        f"values, cross-fitted.{nlr}{wrong_way} Reached: values that reached the gain on validation prompts. {INTERVALS}"
    )
    return _from_cells(cells, RESULTS, caption=caption, label="results", wide=True)


def cost(sources: Sources) -> str:
    """Build the table of what the edits cost.

    Args:
        sources: The run.
    """
    caption = (
        f"Cost of the edits of Table~\\ref{{tab:results}}: invalid texts, and perplexity, KL from the unedited model (nats per "
        f"token) and accuracy on {sources.profile.neutral} neutral texts"
        + (f" and {sources.profile.questions} questions" if sources.profile.questions else "")
        + "; unedited $\\rightarrow$ edited. Dose: median over values, in the method's own unit."
    )
    return _from_cells(report_tables.methods(sources.tables["methods"]), COST, caption=caption, label="cost", wide=True)


def per_value(sources: Sources) -> str:
    """Build the table of the main method's values at the headline gain; "" without the table.

    Args:
        sources: The run.
    """
    df = sources.tables.get("values")
    if df is None:
        return ""
    rows = at_gain(df[df["method"] == sources.main], sources.target)
    caption = f"{escape(method_label(sources.main))} per steered value{_at(sources)}. {INTERVALS}"
    return _from_cells(report_tables.values(rows), PER_VALUE, caption=caption, label="values", wide=True)


def controls(sources: Sources) -> str:
    """Build the table of the positive control; "" where the run has none.

    Args:
        sources: The run.
    """
    df = sources.tables.get("controls")
    if df is None:
        return ""
    caption = (
        f"Positive control: gain of a prompt that names the value, by the judge {escape(sources.results.get('judge'))} on the "
        "same test prompts. A value whose interval is not above 0 is not measurable here."
    )
    return _from_cells(report_tables.controls(df), (), caption=caption, label="control")


def neurons(sources: Sources) -> str:
    """Build the table of the selected neurons; "" without the table.

    Args:
        sources: The run.
    """
    df = sources.tables.get("neurons")
    if df is None or not len(df):
        return ""
    df = pick_method(df)
    rows = []
    for value in present_values(df["value"]):
        of_value = df[df["value"] == value]
        layers = of_value["layer"].astype(int)
        row = [str(value), f"{len(of_value):,}", f"{layers.min()}{DASH}{layers.max()}"]
        rows.append([*map(escape, row), *map(escape, strongest(of_value))])
    selector = escape(sources.config.selector)
    caption = f"Selected neurons per value (selector {selector}), and the one of the largest effect size $g$."
    header = ["value", "neurons", "layers", "largest $|g|$", "$g$"]
    return table(header, rows, caption=caption, label="neurons")


def strongest(rows: pd.DataFrame) -> tuple[str, str]:
    """Return the name of the neuron with the largest |g|, and its g with the interval; dashes without effect sizes.

    Args:
        rows: Rows of table `neurons`.
    """
    if "g" not in rows.columns or not rows["g"].notna().any():
        return DASH, DASH
    best = rows.iloc[int(np.nanargmax(rows["g"].abs().to_numpy(dtype=float)))]
    return f"L{int(best['layer'])}.{int(best['neuron'])}", interval(best["g"], best.get("lo"), best.get("hi"))


def ablation(sources: Sources) -> str:
    """Build the table of ablations, a row per value; "" without the table.

    Args:
        sources: The run.
    """
    df = sources.tables.get("ablation")
    if df is None or not len(df):
        return ""
    operations = list(dict.fromkeys(df["operation"].astype(str)))
    rows = []
    for value in present_values(df["value"]):
        of_value = df[df["value"] == value].set_index("operation")
        changes = [
            interval(float(of_value["change"][name]), float(of_value["lo"][name]), float(of_value["hi"][name]))
            if name in of_value.index
            else DASH
            for name in operations
        ]
        rows.append([escape(value), escape(fixed(of_value["base"].iloc[0])), *map(escape, changes)])
    caption = (
        "Change of a value's score on prompts that express it when its neurons are ablated "
        f"({listed([f'to {escape(name)}' for name in operations])}). Brackets: 95~\\% intervals over prompts."
    )
    header = ["value", "unedited", *(f"to {escape(name)}" for name in operations)]
    return table(header, rows, caption=caption, label="ablation")


#: All tables, in the order of the paper.
TABLES: tuple[Callable[[Sources], str], ...] = (results, cost, per_value, controls, neurons, ablation)


def _has(cells: dict[str, Any], label: str) -> bool:
    """Whether a column of the report's table has any number."""
    labels = [column["label"] for column in cells["columns"]]
    return label in labels and any(not _empty(row[labels.index(label)]["text"]) for row in cells["rows"])


def _empty(text: str) -> bool:
    return set(text) <= {DASH, " ", "→"}


def _from_cells(cells: dict[str, Any], labels: Sequence[str], *, caption: str, label: str, wide: bool = False) -> str:
    """Build a LaTeX table from a table of the report, without columns that are empty.

    Args:
        cells: The report's table.
        labels: Labels of the columns; empty takes all.
        caption: See `latex.table`.
        label: See `latex.table`.
        wide: See `latex.table`.
    """
    shown = [
        index
        for index, column in enumerate(cells["columns"])
        if (not labels or column["label"] in labels) and _has(cells, column["label"])
    ]
    names = [cells["columns"][index]["label"] for index in shown]
    texts = next((position for position, name in enumerate(names) if name not in TEXT), len(names))
    rows = [[escape(row[index]["text"]) for index in shown] for row in cells["rows"]]
    return table([escape(name) for name in names], rows, caption=caption, label=label, wide=wide, texts=texts)


def _model(sources: Sources) -> str:
    name = sources.manifest.get("model", {}).get("name") or sources.config.model
    return "the demo model" if sources.config.demo else escape(name)


def _values(sources: Sources) -> str:
    count = len(sources.values)
    return f"{count} steered values" if count > 1 else f"steered value {escape(sources.values[0])}"


def _at(sources: Sources) -> str:
    return "" if sources.target is None else f" at a target gain of {fixed(sources.target, 1)}"
