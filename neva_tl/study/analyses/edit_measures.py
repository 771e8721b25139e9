"""What a run measured of one of its edits, as the card of the saved edit shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from neva_tl.core.files import to_json
from neva_tl.study.report.card_measures import cost_rows
from neva_tl.study.report.control import controls_of
from neva_tl.study.run.run_folder import RunFolder

#: Texts on a card.
TEXTS = 3
#: Columns of the table of doses.
CURVE = ("dose", "gain", "invalid", "admissible")


def edit_measures(store: RunFolder, method: str, value: str, target: float | None, lowest: float) -> dict[str, Any]:
    """Read the measures of an edit from a run's tables and cells; see `neva_tl.editing.readme` for their form.

    Args:
        store: The run folder.
        method: Method of the edit.
        value: Steered value.
        target: Matched gain; None for a method without a dose.
        lowest: Lowest matched gain of the run, below which no texts are generated for a judge that reads none.
    """
    results = store.read_json("results.json")
    cell = f"cells/measure/{method}/{value}@{target}"
    values = _of(store.read_table("tables/values"), method, value, target)
    row: dict[str, Any] = {str(key): x for key, x in values.iloc[0].items()} if len(values) else {}
    leakage = _of(store.read_table("tables/leakage"), method, value, target)
    target_row = leakage[leakage["measured"] == value]
    n = int(target_row["n"].iloc[0]) if len(target_row) else 0
    controls = controls_of(results) or {"values": {}}
    doses = (
        store.read_table("tables/dose")
        if store.has("tables/dose.parquet")
        else pd.DataFrame(columns=["method", "steered"])
    )
    curve = doses[(doses["method"] == method) & (doses["steered"] == value)]
    judge, unit = results["judge"], results["unit"]
    best = (
        curve[(curve["dose"] - row["dose"]).abs() < 1e-9] if len(curve) and row.get("dose") is not None else curve[:0]
    )
    return to_json(
        {
            "judge": judge,
            "unit": unit,
            "status": row.get("status"),
            "target": target,
            "lowest_target": lowest,
            "validation_gain": float(best["gain"].iloc[0]) if len(best) else None,
            "gain": _estimate(row, "gain", n),
            "wrong_way": _estimate(row, "wrong_way", n) if "wrong_way" in row else None,
            "control": controls["values"].get(value),
            "curves": [{"judge": judge, "unit": unit, "rows": curve[list(CURVE)].to_dict("records")}]
            if len(curve)
            else [],
            "leakage": {
                "mean": {"est": row.get("leakage")},
                "rows": leakage[["measured", "d", "lo", "hi", "n"]].to_dict("records"),
            },
            "cost": cost_rows(store.read_json("cells/base.json"), store.read_json(f"{cell}.json")),
            "texts": _texts(store, cell, method, value, target),
        }
    )


def _of(table: pd.DataFrame, method: str, value: str, target: float | None) -> pd.DataFrame:
    gains = table["target_gain"].astype(float)
    matched = gains.isna() if target is None else (gains - target).abs() < 1e-9
    return table[(table["method"] == method) & (table["steered"] == value) & matched]


def _estimate(row: Mapping[str, Any], name: str, n: int) -> dict[str, Any] | None:
    if row.get(name) is None or pd.isna(row[name]):
        return None
    return {"est": row[name], "lo": row.get(f"{name}_lo"), "hi": row.get(f"{name}_hi"), "n": n}


def _texts(store: RunFolder, cell: str, method: str, value: str, target: float | None) -> list[dict[str, str]]:
    """Read continuations of the first test prompts: those that were judged, else the example texts of the run."""
    pairs = (
        ("cells/base.texts", f"{cell}.texts"),
        ("cells/texts/unedited/none@None", f"cells/texts/{method}/{value}@{target}"),
    )
    for names in pairs:
        if all(store.has(f"{name}.parquet") for name in names):
            first, second = (store.read_table(name).drop_duplicates("prompt") for name in names)
            both = first.merge(second, on="prompt", suffixes=("_unedited", "_edited"))[:TEXTS]
            columns = both[["prompt", "text_unedited", "text_edited"]].itertuples(index=False)
            return [dict(zip(("prompt", "unedited", "edited"), map(str, row), strict=True)) for row in columns]
    return []
