"""Sections of the report: heatmaps, texts, neurons, circuits, manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from neva_tl.circuits.drawing.draw import circuit_svg, layout
from neva_tl.circuits.drawing.text import visible
from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ
from neva_tl.plots.layer_profile import pick_method
from neva_tl.plots.needs import lacks_others
from neva_tl.plots.style import (
    at_gain,
    condition_label,
    conditions,
    method_label,
    method_order,
    of_condition,
    present_values,
    short,
    value_colour,
)
from neva_tl.plots.value_names import theory_in
from neva_tl.study.report import tables
from neva_tl.study.report.numbers import finite, fixed, interval

#: Prompts per value; the methods shown side by side with the unedited text where a run has them, and their largest number.
PROMPTS = 2
SIDE_BY_SIDE = ("neva", "caa")
SIDE_MOST = 2
#: Rows of the tables of neurons and of edges.
TOP_NEURONS = 10
CIRCUIT_ROWS = 24
#: Reason why a run with a table of texts has no section of texts.
NO_TEXTS = "the table generations has no unedited and edited texts for the same prompts"


def heatmaps(leakage: pd.DataFrame) -> dict[str, Any]:
    """Build a coloured table per condition, all on one colour scale."""
    if not {"method", "steered", "measured", "d", "lo", "hi"} <= set(leakage.columns) or lacks_others(leakage):
        return {}
    limit = float(np.nanmax(leakage["d"].abs().to_numpy(dtype=float), initial=0.0)) or 1.0
    rows_of, columns_of = present_values(leakage["steered"]), present_values(leakage["measured"])
    maps = []
    for condition in conditions(leakage):
        cells = of_condition(leakage, condition).groupby(["steered", "measured"])[["d", "lo", "hi"]].mean()
        maps.append(
            {
                "title": condition_label(*condition),
                "columns": [{"name": name, "colour": value_colour(name)} for name in columns_of],
                "rows": [
                    {
                        "name": name,
                        "colour": value_colour(name),
                        "cells": [_cell(cells, name, other, limit) for other in columns_of],
                    }
                    for name in rows_of
                ],
            }
        )
    return {"maps": maps, "map_limit": short(limit), "map_order": _order_of_values(columns_of)}


def _order_of_values(names: list[str]) -> str:
    """Return the sentence about the order of rows and columns."""
    theory = theory_in(names)
    if not theory.has_circle:
        return f"Values are in the order of the theory {theory.name}."
    circle = "Schwartz's circle" if theory == SCHWARTZ else f"the circle of the theory {theory.name}"
    return f"Values are in the order of {circle}, so leakage into related values is near the diagonal."


def _cell(cells: pd.DataFrame, steered: str, measured: str, limit: float) -> dict[str, str]:
    kind = "self" if steered == measured else ""
    numbers = cells[(cells.index == (steered, measured)).tolist()].to_numpy(dtype=float)
    if not len(numbers) or not np.isfinite(numbers[0, 0]):
        return {
            "kind": f"{kind} faint".strip(),
            "ground": "transparent",
            "ink": "",
            "text": "·",
            "title": "not measured",
        }
    d, lo, hi = numbers[0].tolist()
    strong = lo > 0 or hi < 0
    weight = min(1.0, abs(d) / limit)
    # a transparent colour works on light and on dark pages
    share = (0.12 + 0.83 * weight if strong else 0.1 * weight) if d else 0.0
    colour = "178,24,43" if d > 0 else "33,102,172"
    return {
        "kind": kind if strong else f"{kind} faint".strip(),
        "ground": f"rgba({colour},{share:.2f})",
        "ink": "#fff" if strong and share > 0.55 else "",
        "text": short(d, fixed=True),
        "title": f"towards {steered}, measured {measured}: {interval(d, lo, hi)}",
    }


def texts(generations: pd.DataFrame) -> dict[str, Any]:
    """Collect the first prompts of each steered value with their texts.

    Unedited and edited texts are side by side, at the largest target gain.

    Args:
        generations: table `generations`.

    Returns:
        `texts` and `texts_gain` of the template; empty where columns or conditions are missing.
    """
    df = generations.copy()
    name = "method" if "method" in df.columns else "condition" if "condition" in df.columns else None
    if name is None or not {"prompt", "text", "steered"} <= set(df.columns):
        return {}
    df["method"] = df[name].astype(str)
    target = df["target_gain"].astype(float) if "target_gain" in df.columns else pd.Series(np.nan, index=df.index)
    df = at_gain(df.assign(target_gain=target))
    written = method_order(df["method"])
    if "unedited" not in written or len(written) < 2:
        return {}
    edits = [m for m in written if m in SIDE_BY_SIDE] or [m for m in written if m != "unedited"]
    methods = ["unedited", *edits[:SIDE_MOST]]
    unedited = df[df["method"] == "unedited"].drop_duplicates("prompt").set_index("prompt")
    groups = []
    for value in present_values(df["steered"].dropna()):
        edited = df[(df["steered"] == value) & df["method"].isin(methods)]
        prompts = [p for p in edited["prompt"].drop_duplicates() if p in unedited.index][:PROMPTS]
        items = []
        for prompt in prompts:
            rows_by_method = {"unedited": unedited.loc[prompt]}
            for method in methods[1:]:
                matches = edited[(edited["method"] == method) & (edited["prompt"] == prompt)]
                if len(matches):
                    rows_by_method[method] = matches.iloc[0]
            items.append({"prompt": str(prompt), "texts": [_text(m, row, value) for m, row in rows_by_method.items()]})
        if items:
            groups.append({"value": value, "colour": value_colour(value), "prompts": items})
    gain = target.max()
    return {"texts": groups, "texts_gain": f" at a target gain of {short(float(gain))}" if np.isfinite(gain) else ""}


def _text(method: str, row: pd.Series, value: str) -> dict[str, Any]:
    score = finite(row.get(f"score_{value}"))
    valid = row.get("valid", True)
    return {
        "label": method_label(method),
        "text": str(row["text"]).strip(),
        "score": "" if score is None else fixed(score),
        "valid": bool(valid) if pd.notna(valid) else True,
    }


def neurons(df: pd.DataFrame) -> list[dict[str, Any]]:
    """Build a table of the best-ranked neurons for each value."""
    df = pick_method(df)
    out = []
    for value in present_values(df["value"]):
        rows = df[df["value"] == value]
        if "rank" in rows.columns:
            rows = rows.sort_values("rank")
        counts = rows["layer"].astype(int).value_counts().sort_index()
        note = f"{len(rows)} neurons; per layer " + ", ".join(f"L{layer}: {n}" for layer, n in counts.items())
        out.append(
            {
                "value": value,
                "colour": value_colour(value),
                "note": note,
                "table": tables.neurons(rows.head(TOP_NEURONS)),
            }
        )
    return out


def circuits(df: pd.DataFrame) -> list[dict[str, Any]]:
    """Draw each value's circuit and list its strongest edges."""
    out = []
    for value in present_values(df["value"]):
        rows = df[df["value"] == value]
        try:
            plan, svg = layout(rows), circuit_svg(rows)
        except InputError:
            continue
        order = rows["attribution"].abs().sort_values(ascending=False).index
        table = tables.circuit(rows.loc[order].head(CIRCUIT_ROWS), visible)
        # circuit_svg escapes all text of the data
        out.append(
            {"value": value, "colour": value_colour(value), "note": plan.note, "svg": Markup(svg), "table": table}
        )
    return out


def manifest_lines(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the manifest's top level, nested entries as `name value` lists."""
    lines = []
    for name, item in manifest.items():
        if isinstance(item, Mapping):
            text = ", ".join(f"{key} {value}" for key, value in item.items())
        elif isinstance(item, list | tuple):
            text = ", ".join(map(str, item))
        else:
            text = "–" if item is None else str(item)
        lines.append((str(name).replace("_", " "), text))
    return lines
