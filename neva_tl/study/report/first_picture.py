"""The first picture of the report: gain, leakage and cost of each method, a row per method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from neva_tl.plots.style import method_colour, method_label, method_order
from neva_tl.study.report.control import controls_of
from neva_tl.study.report.numbers import estimate, finite, fixed, limits, measure, percent
from neva_tl.study.report.plain import items_word
from neva_tl.study.report.roles import Methods, main_method, peer_method

#: Rows of the picture; further methods are in the table of methods.
ROWS = 7
#: An axis ends at this multiple of the largest estimate, so that one wide interval does not squeeze the others.
WIDEST = 3.0

Measure = Mapping[str, Any]
Read = Callable[[Mapping[str, Any]], Measure | None]
Write = Callable[[Any], str]


def first_picture(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return rows and columns of the picture, positions in per cent of a column's width.

    Args:
        results: Content of results.json.

    Returns:
        The data of the template; None for a run without methods.
    """
    methods: Methods = results.get("methods", {})
    names = [name for name in method_order(methods) if estimate(methods[name].get("gain")) is not None]
    if not names:
        return None
    first = [name for name in (main_method(methods), peer_method(methods)) if name in names]
    shown = set([*first, *(name for name in names if name not in first)][:ROWS])
    rows: list[dict[str, Any]] = [
        {"label": method_label(name), "colour": method_colour(name), "cells": []} for name in names if name in shown
    ]
    entries = [methods[name] for name in names if name in shown]
    columns = [_gain(results), _leakage(results, entries), _cost(entries)]
    for _, read, write, reason in columns:
        measures = [read(entry) for entry in entries]
        axis = _axis(measures)
        for row, entry in zip(rows, measures, strict=True):
            row["cells"].append(_cell(entry, axis, write, reason))
    gains = [entry.get("gain") or {} for entry in entries]
    return {
        "columns": [column for column, _, _, _ in columns],
        "rows": rows,
        "more": len(names) - len(rows),
        "undosed": any(finite(entry.get("target_gain")) is None for entry in entries),
        "what": items_word(results),
        "prompts": int(max((finite(gain.get("n")) or 0 for gain in gains), default=0)),
        "target": fixed(target, 1) if (target := finite(results.get("target_gain"))) is not None else "",
    }


def _gain(results: Mapping[str, Any]) -> tuple[dict[str, str], Read, Write, str]:
    column = {"name": "gain", "better": "↑", "unit": str(results.get("unit", ""))}
    reason = "not measurable here" if _mute(results) else ""
    return column, lambda entry: None if reason else entry.get("gain"), lambda entry: measure(entry), reason


def _leakage(results: Mapping[str, Any], entries: list[Mapping[str, Any]]) -> tuple[dict[str, str], Read, Write, str]:
    column = {"name": "leakage", "better": "↓", "unit": "mean rise of other values"}
    reason = "no other value" if _alone(entries) else "not measurable here" if _mute(results) else "not measured"
    return column, lambda entry: None if _mute(results) else entry.get("leakage"), lambda entry: measure(entry), reason


def _cost(entries: list[Mapping[str, Any]]) -> tuple[dict[str, str], Read, Write, str]:
    """KL where it was measured, else perplexity, else the rate of invalid texts."""

    def capability(name: str) -> Read:
        return lambda entry: (entry.get("capability", {}).get(name) or {}).get("edited")

    for name, unit, digits in (("kl", "KL, nats per token", 3), ("perplexity", "perplexity of neutral text", 2)):
        read = capability(name)
        if any(estimate(read(entry)) is not None for entry in entries):
            column = {"name": "cost", "better": "↓", "unit": unit}
            return column, read, lambda entry, digits=digits: measure(entry, digits), "not measured"  # type: ignore[misc]
    column = {"name": "cost", "better": "↓", "unit": "invalid texts"}
    return column, lambda entry: entry.get("invalid"), lambda entry: percent(estimate(entry)), "not measured"


def _mute(results: Mapping[str, Any]) -> bool:
    """Whether no value passes the positive control."""
    controls = controls_of(results)
    return (
        controls is not None and bool(controls["values"]) and set(controls["not_measurable"]) >= set(controls["values"])
    )


def _alone(entries: list[Mapping[str, Any]]) -> bool:
    """Whether the steered value alone was measured: leakage has an entry without a number."""
    return all("leakage" in entry and estimate(entry["leakage"]) is None for entry in entries)


def _axis(measures: list[Measure | None]) -> tuple[float, float]:
    """Both ends of an axis that contains 0, the estimates, and their intervals up to `WIDEST` times the largest estimate."""
    numbers = [number for entry in measures if (number := estimate(entry)) is not None]
    ends = [end for entry in measures for end in limits(entry) or ()]
    widest = WIDEST * max((abs(number) for number in numbers), default=1.0)
    cut = [min(max(end, -widest), widest) for end in ends]
    low, high = min([0.0, *numbers, *cut]), max([0.0, *numbers, *cut])
    return (low, high) if high - low > 1e-9 else (0.0, 1.0)


def _cell(entry: Measure | None, axis: tuple[float, float], write: Write, reason: str) -> dict[str, Any]:
    number = estimate(entry)
    if number is None:
        return {"text": reason or "–", "dot": None}
    low, high = axis

    def position(raw: float) -> float:
        # 4 % of the width on both sides is kept free for the dot
        return round(4 + 92 * (min(max(raw, low), high) - low) / (high - low), 1)

    bar = None
    if (ends := limits(entry)) is not None:
        left, right = position(ends[0]), position(ends[1])
        bar = {"left": left, "width": round(right - left, 1)}
    text, _, ends_text = write(entry).partition(" [")
    return {
        "text": text,
        "interval": f"[{ends_text}" if ends_text else "",
        "dot": position(number),
        "bar": bar,
        "zero": position(0.0),
    }
