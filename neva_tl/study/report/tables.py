"""Data frames as sortable tables, a text and a sorting key per cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from neva_tl.core.method_records import METHODS
from neva_tl.plots.style import gate_of, method_label, method_order, present_values
from neva_tl.study.report.definitions import term_of
from neva_tl.study.report.numbers import finite, fixed, interval, p_text, percent

Row = Mapping[Any, Any]
#: (label, text of a row, sorting key of a row, whether it is text, tooltip)
Column = tuple[str, Callable[[Row], str], Callable[[Row], Any], bool, str]

#: Tooltip of the share of items pushed the wrong way.
WRONG_WAY = "share of test items whose score the edit lowers, ties half: .5 = no direction"


def number(label: str, name: str, digits: int = 2, title: str = "") -> Column:
    """Column of a plain number."""
    return label, lambda row: fixed(row.get(name), digits), lambda row: row.get(name), False, title


def ranged(label: str, name: str, title: str = "") -> Column:
    """Column of a number with its interval."""
    return (
        label,
        lambda row: interval(row.get(name), row.get(f"{name}_lo"), row.get(f"{name}_hi")),
        lambda row: row.get(name),
        False,
        title,
    )


def change(label: str, before: str, after: str, title: str = "", digits: int = 2) -> Column:
    """Column of `before → after`, sorted by after."""
    return (
        label,
        lambda row: f"{fixed(row.get(before), digits)} → {fixed(row.get(after), digits)}",
        lambda row: row.get(after),
        False,
        title,
    )


def words(label: str, read: Callable[[Row], str], title: str = "") -> Column:
    """Column of text."""
    return label, read, read, True, title


def build(df: pd.DataFrame, columns: list[Column]) -> dict[str, Any]:
    """Build the columns and cells of a table for the template."""
    rows = []
    for row in df.to_dict("records"):
        cells = []
        for _, text, key, is_text, _ in columns:
            raw = key(row)
            size = None if is_text else finite(raw)
            cells.append({"text": text(row), "sort": str(raw) if is_text else "" if size is None else repr(size)})
        rows.append(cells)
    heads = [{"label": c[0], "text": c[3], "title": c[4], "term": term_of(c[0])} for c in columns]
    return {"columns": heads, "rows": rows}


def or_dash(raw: Any) -> str:
    """Return the text of a cell, or a dash for a missing one."""
    return "–" if raw is None or raw is pd.NA or raw != raw or str(raw) == "" else str(raw)


def _target(row: Row) -> str:
    target = finite(row.get("target_gain"))
    return "own" if target is None else fixed(target, 1)


def _present(df: pd.DataFrame, columns: list[tuple[str, Column]]) -> list[Column]:
    """The columns with data in the table."""
    return [column for name, column in columns if name in df.columns]


def in_order(df: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by method, gate, target gain (none last) and value in the order of its theory."""
    rank = {name: index for index, name in enumerate(method_order(df["method"]))}
    keys = pd.DataFrame({"m": df["method"].astype(str).map(rank)}, index=df.index)
    keys["g"] = df["gate"].map(gate_of) if "gate" in df.columns else "none"
    keys["t"] = df["target_gain"].astype(float) if "target_gain" in df.columns else 0.0
    keys["v"] = 0
    if "steered" in df.columns:
        order = present_values(df["steered"])
        keys["v"] = df["steered"].map(lambda v: order.index(v) if v in order else len(order))
    return df.loc[keys.sort_values(["m", "g", "t", "v"]).index]


def _method(row: Row) -> str:
    return method_label(str(row["method"]))


def _reached(row: Row) -> str:
    return "–" if dose_of(row) else or_dash(row.get("reached"))


def _status(row: Row) -> str:
    lender = dose_of(row)
    return f"dose of {method_label(lender)}" if lender else or_dash(row.get("status"))


def dose_of(row: Row) -> str | None:
    """Return the method that lends its calibrated dose to the row's method, if any."""
    record = METHODS.get(str(row["method"]))
    return None if record is None else record.dose_of


def methods(df: pd.DataFrame) -> dict[str, Any]:
    """Build the table of all methods."""
    columns = [
        ("method", words("method", _method)),
        ("gate", words("gate", lambda row: gate_of(row.get("gate")))),
        ("target_gain", words("at gain", _target, "target gain on validation prompts; own: no dose")),
        (
            "reached",
            words(
                "reached",
                _reached,
                "values that reached the target on validation prompts at a dose of the method's own",
            ),
        ),
        ("csr", change("CSR", "csr_base", "csr", "mean score of the steered value, unedited → edited")),
        ("gain", ranged("gain", "gain", "mean of D[i,i] over values")),
        ("gain_measurable", ranged("gain, measurable", "gain_measurable", "mean over the measurable values alone")),
        ("wrong_way", ranged("wrong way", "wrong_way", WRONG_WAY)),
        ("nlr", ranged("NLR", "nlr", "leakage per gain, cross-fitted (ours)")),
        (
            "leakage",
            ranged("leakage", "leakage", "mean over values, cross-fitted: below 0 by noise where nothing leaks"),
        ),
        ("ngl", ranged("NGL", "ngl", "share of leakage outside the higher-order group, 1 = no structure (ours)")),
        (
            "invalid",
            (
                "invalid",
                lambda row: percent(row.get("invalid")),
                lambda row: row.get("invalid"),
                False,
                "invalid texts",
            ),
        ),
        ("ppl", change("perplexity", "ppl_base", "ppl", "held-out neutral text, unedited → edited")),
        ("kl", number("KL", "kl", 3, "KL from the unedited model on neutral text, nats per token")),
        ("acc", change("accuracy", "acc_base", "acc", "neutral questions, unedited → edited", 3)),
        ("dose", number("dose", "dose", 3, "median over values, in the method's own unit")),
    ]
    return build(in_order(df), _present(df, columns))


def values(df: pd.DataFrame) -> dict[str, Any]:
    """Build a table with a row per method, target gain and steered value."""
    columns = [
        ("method", words("method", _method)),
        ("gate", words("gate", lambda row: gate_of(row.get("gate")))),
        ("target_gain", words("at gain", _target)),
        ("steered", words("steered", lambda row: str(row["steered"]))),
        ("status", words("status", _status)),
        ("dose", number("dose", "dose", 3)),
        ("csr", change("CSR", "csr_base", "csr")),
        ("gain", ranged("gain", "gain")),
        ("wrong_way", ranged("wrong way", "wrong_way", WRONG_WAY)),
        ("leakage", number("leakage", "leakage", 3, "mean rise of the other values, cross-fitted")),
        ("invalid", ("invalid", lambda row: percent(row.get("invalid")), lambda row: row.get("invalid"), False, "")),
    ]
    return build(in_order(df), _present(df, columns))


def controls(df: pd.DataFrame) -> dict[str, Any]:
    """Build the table of the positive control: a row per value, and one of their mean."""
    columns = [
        ("value", words("value", lambda row: str(row["value"]))),
        (
            "est",
            (
                "gain of the role prompt",
                lambda row: interval(row["est"], row.get("lo"), row.get("hi")),
                lambda row: row["est"],
                False,
                "",
            ),
        ),
        ("n", number("items", "n", 0)),
        (
            "measurable",
            words("measurable", lambda row: "yes" if row["measurable"] else "no", "the interval is above 0"),
        ),
    ]
    return build(df, _present(df, columns))


def neurons(df: pd.DataFrame) -> dict[str, Any]:
    """Build the table of one value's neurons with their statistics."""
    columns = [
        ("rank", number("rank", "rank", 0)),
        (
            "layer",
            ("neuron", lambda row: f"L{int(row['layer'])}.{int(row['neuron'])}", lambda row: row["layer"], False, ""),
        ),
        (
            "g",
            (
                "g",
                lambda row: interval(row.get("g"), row.get("lo"), row.get("hi")),
                lambda row: row.get("g"),
                False,
                "effect size",
            ),
        ),
        ("p", ("p", lambda row: p_text(row.get("p")), lambda row: row.get("p"), False, "")),
        ("q", ("q", lambda row: p_text(row.get("q")), lambda row: row.get("q"), False, "false discovery rate")),
        (
            "split_half",
            words(
                "halves agree",
                lambda row: "yes" if row.get("split_half") in (True, 1) else "no",
                "same sign in both halves",
            ),
        ),
        ("leak", number("leak", "leak", 2, "largest effect on another value, in this neuron's direction")),
        ("write", number("write", "write", 3, "output along the value's direction")),
        ("score", number("score", "score", 3, "ranking score of the selector")),
        ("mean_plus", number("mean +", "mean_plus", 3, "mean activation where the value is expressed")),
        ("mean_minus", number("mean −", "mean_minus", 3, "mean activation where it is opposed")),
    ]
    return build(df, _present(df, columns))


def ablation(df: pd.DataFrame) -> dict[str, Any]:
    """Build the table of ablations of the selected neurons on expressing prompts."""
    columns = [
        ("value", words("value", lambda row: str(row["value"]))),
        ("operation", words("ablated to", lambda row: str(row["operation"]))),
        ("base", change("score", "base", "ablated")),
        (
            "change",
            (
                "change",
                lambda row: interval(row["change"], row.get("lo"), row.get("hi")),
                lambda row: row["change"],
                False,
                "",
            ),
        ),
        ("n", number("prompts", "n", 0)),
    ]
    return build(df, _present(df, columns))


def circuit(df: pd.DataFrame, show: Callable[[str], str]) -> dict[str, Any]:
    """Build the table of one value's circuit edges, strongest first."""
    columns = [
        (
            "layer",
            ("neuron", lambda row: f"L{int(row['layer'])}.{int(row['neuron'])}", lambda row: row["layer"], False, ""),
        ),
        ("token", words("token", lambda row: show(str(row["token"])))),
        ("token_value", words("of value", lambda row: str(row["token_value"]))),
        ("attribution", number("attribution", "attribution", 3)),
    ]
    if "measured" in df.columns and df["measured"].notna().any():
        columns.append(
            ("measured", number("measured", "measured", 4, "change of the value's token log-odds when ablated"))
        )
    return build(df, _present(df, columns))
