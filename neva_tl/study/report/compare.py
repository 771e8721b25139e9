"""The page that compares two runs: measures, neurons, texts and settings side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl.circuits.drawing.page import assets
from neva_tl.core.theories import ValueTheory
from neva_tl.plots.pages import asset, environment, write_page
from neva_tl.plots.style import gate_of, method_label
from neva_tl.plots.value_names import using_theory
from neva_tl.study.report import tables
from neva_tl.study.report.explorer import packed
from neva_tl.study.report.numbers import finite, interval, p_text

#: Measure -> its name on the page, digits, tooltip.
MEASURES: dict[str, tuple[str, int, str]] = {
    "gain": ("gain", 2, "mean change of the steered value's score on test items"),
    "csr": ("CSR", 2, "mean score of the steered value under the edit"),
    "leakage": ("leakage", 3, "mean rise of the other values, cross-fitted"),
    "nlr": ("NLR", 2, "leakage per gain, cross-fitted"),
    "invalid": ("invalid", 3, "share of invalid texts"),
    "ppl": ("perplexity", 2, "of held-out neutral text under the edit"),
    "kl": ("KL", 3, "from the unedited model on neutral text, nats per token"),
    "acc": ("accuracy", 3, "on neutral questions under the edit"),
}
#: Measures of the first table; all others are folded away.
HEADLINE = ("gain", "leakage", "nlr", "kl")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two runs side by side, as tables.

    Attributes:
        names: Names of both runs.
        judge: Judge of both runs.
        unit: Unit of both runs' scores.
        theory: Theory of the values; None for the one that their names imply.
        paired: Whether both runs measured the same items, so that differences have intervals.
        values: Values that both runs steer.
        measures: A row per condition and measure: method, gate_a, gate_b, target_gain, measure, and `a`, `b`, `difference`
            (b - a), each with `_lo` and `_hi`.
        per_value: A row per condition and steered value: method, target_gain, value, and gains as in `measures`.
        neurons: A row per value: value, size_a, size_b, shared, jaccard, expected, p_more, p_fewer; None where the runs'
            neurons cannot be compared.
        pairs: Pairs of texts (`explorer.PAIR_COLUMNS`), the first run's before the second's; None without common texts.
        settings: A row per setting that differs: setting, a, b.
        notes: Sentences on what cannot be compared.
    """

    names: tuple[str, str]
    judge: str
    unit: str
    theory: ValueTheory | None
    paired: bool
    values: tuple[str, ...]
    measures: pd.DataFrame
    per_value: pd.DataFrame
    neurons: pd.DataFrame | None
    pairs: pd.DataFrame | None
    settings: pd.DataFrame
    notes: tuple[str, ...]

    def save(self, path: str | Path) -> Path:
        """Write the page, self-contained and without requests.

        Args:
            path: Path of the page.
        """
        return write_comparison(self, path)


def write_comparison(comparison: Comparison, path: str | Path) -> Path:
    """Write the page of a comparison.

    Args:
        comparison: The comparison.
        path: Path of the page.

    Returns:
        The path.
    """
    with using_theory(comparison.theory):
        page = environment().get_template("compare.html.j2").render(_context(comparison))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_page(path, page)


def _context(comparison: Comparison) -> dict[str, Any]:
    a, b = comparison.names
    css, _ = assets()
    texts = None if comparison.pairs is None else packed(comparison.pairs, sides=comparison.names)
    sections = [
        ("measures", "Measures", len(comparison.measures)),
        ("neurons", "Neurons", comparison.neurons is not None),
        ("texts", "Texts", texts is not None),
        ("settings", "Settings", True),
        ("missing", "Left out", comparison.notes),
    ]
    return {
        "css": asset("report.css.j2")
        + css
        + asset("tables.css.j2")
        + asset("explorer.css.j2")
        + asset("compare.css.j2"),
        "js": asset("sort.js.j2") + asset("explorer.js.j2"),
        "a": a,
        "b": b,
        "judge": comparison.judge,
        "unit": comparison.unit,
        "paired": comparison.paired,
        "values": ", ".join(comparison.values),
        "sentences": sentences(comparison),
        "measures": measures_table(headline_rows(comparison.measures), comparison.names),
        "all_measures": measures_table(comparison.measures, comparison.names),
        "per_value": per_value_table(comparison.per_value, comparison.names),
        "neurons": None if comparison.neurons is None else neurons_table(comparison.neurons, comparison.names),
        "texts": texts,
        "settings": settings_table(comparison.settings, comparison.names),
        "notes": comparison.notes,
        "contents": [(section, title) for section, title, present in sections if present],
    }


def headline_rows(df: pd.DataFrame) -> pd.DataFrame:
    """Return the main measures of every method at the largest common target gain.

    Args:
        df: `Comparison.measures`.
    """
    top = df["target_gain"].max() if len(df) else float("nan")
    return df[df["measure"].isin(HEADLINE) & (df["target_gain"].isna() | (df["target_gain"] == top))]


def sentences(comparison: Comparison) -> list[str]:
    """Say the gain of every method in both runs at the largest common target gain.

    Args:
        comparison: The comparison.
    """
    df = headline_rows(comparison.measures)
    a, b = comparison.names
    lines = []
    rows = df[df["measure"] == "gain"]
    for row in rows.to_dict("records"):
        line = f"{condition(row)}: gain {_estimate(row, 'a')} in {a} and {_estimate(row, 'b')} in {b}"
        low, high = finite(row["difference_lo"]), finite(row["difference_hi"])
        if low is not None and high is not None:
            if low == high == 0:
                line += "; the same in both"
            elif low <= 0 <= high:
                line += f"; the difference {_estimate(row, 'difference')} is within noise"
            else:
                line += f"; the difference {_estimate(row, 'difference')} excludes 0: {b if low > 0 else a} has the larger gain"
        lines.append(f"{line}.")
    return lines


def condition(row: Mapping[Any, Any]) -> str:
    """Return a condition's label, for example `NeVA at target gain 0.4`.

    Args:
        row: A row with method and target_gain.
    """
    target = finite(row["target_gain"])
    label = method_label(str(row["method"]))
    return label if target is None else f"{label} at target gain {target:g}"


def _estimate(row: Mapping[Any, Any], name: str) -> str:
    digits = MEASURES[str(row["measure"])][1] if "measure" in row else 2
    return interval(row[name], row[f"{name}_lo"], row[f"{name}_hi"], digits)


def _side(label: str, name: str, title: str = "") -> tables.Column:
    return label, lambda row: _estimate(row, name), lambda row: row[name], False, title


def _differs(row: Mapping[Any, Any]) -> str:
    low, high = finite(row["difference_lo"]), finite(row["difference_hi"])
    return "–" if low is None or high is None else "no" if low <= 0 <= high else "yes"


def _compared(names: tuple[str, str]) -> list[tables.Column]:
    """Columns of both estimates and their difference."""
    a, b = names
    return [
        _side(a, "a"),
        _side(b, "b"),
        _side("difference", "difference", f"{b} minus {a}; 95 % interval on the same draws of the test items"),
        tables.words("excludes 0", _differs, "whether the interval of the difference excludes 0"),
    ]


def _gates(row: Mapping[Any, Any]) -> str:
    first, second = gate_of(row["gate_a"]), gate_of(row["gate_b"])
    return first if first == second else f"{first} | {second}"


def measures_table(df: pd.DataFrame, names: tuple[str, str]) -> dict[str, Any]:
    """Build the table of headline measures.

    Args:
        df: `Comparison.measures`.
        names: Names of both runs.
    """
    columns = [
        tables.words("method", lambda row: method_label(str(row["method"]))),
        tables.words("gate", _gates, "gate of the first | of the second run where they differ"),
        tables.number("at gain", "target_gain", 1, "target gain on validation prompts"),
        tables.words("measure", lambda row: MEASURES[str(row["measure"])][0]),
        *_compared(names),
    ]
    return tables.build(df, columns)


def per_value_table(df: pd.DataFrame, names: tuple[str, str]) -> dict[str, Any]:
    """Build the table of gains per steered value.

    Args:
        df: `Comparison.per_value`.
        names: Names of both runs.
    """
    columns = [
        tables.words("method", lambda row: method_label(str(row["method"]))),
        tables.number("at gain", "target_gain", 1),
        tables.words("value", lambda row: str(row["value"])),
        *_compared(names),
    ]
    return tables.build(df, columns)


def neurons_table(df: pd.DataFrame, names: tuple[str, str]) -> dict[str, Any]:
    """Build the table of shared neurons.

    Args:
        df: `Comparison.neurons`.
        names: Names of both runs.
    """
    a, b = names
    columns = [
        tables.words("value", lambda row: str(row["value"])),
        tables.number(a, "size_a", 0, f"neurons that {a} selected"),
        tables.number(b, "size_b", 0, f"neurons that {b} selected"),
        tables.number("shared", "shared", 0, "neurons in both"),
        tables.number("by chance", "expected", 1, "expected of random sets of these sizes"),
        tables.number("Jaccard", "jaccard", 2, "shared by either"),
        (
            "p, more than chance",
            lambda row: p_text(row["p_more"]),
            lambda row: row["p_more"],
            False,
            "chance of at least as many shared neurons (hypergeometric)",
        ),
    ]
    return tables.build(df, columns)


def settings_table(df: pd.DataFrame, names: tuple[str, str]) -> dict[str, Any]:
    """Build the table of settings that differ.

    Args:
        df: `Comparison.settings`.
        names: Names of both runs.
    """
    columns = [
        tables.words("setting", lambda row: str(row["setting"])),
        tables.words(names[0], lambda row: tables.or_dash(row["a"])),
        tables.words(names[1], lambda row: tables.or_dash(row["b"])),
    ]
    return tables.build(df, columns)
