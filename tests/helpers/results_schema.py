"""What DESIGN.md says of results.json, as assertions; the end-to-end tests of other folders load this file by its path."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl.core.method_records import find_method
from neva_tl.core.values import VALUES
from neva_tl.methods import gate_name

TOP = {"schema", "model", "values", "judge", "unit", "target_gain", "methods", "conditions", "manifest"}
METHOD = {
    "gate",
    "target_gain",
    "reached",
    "csr",
    "gain",
    "nlr",
    "ngl",
    "invalid",
    "fluency",
    "capability",
    "per_value",
}
VALUE = {"dose", "status", "gain", "leakage"}
MANIFEST = {"schema", "study", "command", "config", "versions", "model", "prompt_hash", "seed", "values", "wall_time_s"}
TABLES = ("methods", "leakage", "values", "neurons", "effects", "circuit", "generations", "ablation")


def numbers(data: Any) -> list[float]:
    """Every number of a nested structure."""
    if isinstance(data, dict):
        return [x for item in data.values() for x in numbers(item)]
    if isinstance(data, list):
        return [x for item in data for x in numbers(item)]
    return [float(data)] if isinstance(data, int | float) and not isinstance(data, bool) else []


def check_m(m: Any) -> None:
    """`M = {"est", "lo", "hi", "n"}`: an estimate inside its interval, or null."""
    assert set(m) == {"est", "lo", "hi", "n"} and isinstance(m["n"], int) and m["n"] >= 0
    if m["est"] is None:
        assert m["lo"] is None and m["hi"] is None
    for low, high in ((m["lo"], m["est"]), (m["est"], m["hi"])):
        assert low is None or high is None or low <= high, m


def measures(data: Any) -> list[dict[str, Any]]:
    """Every `M` of a nested structure."""
    if isinstance(data, dict):
        if set(data) == {"est", "lo", "hi", "n"}:
            return [data]
        data = list(data.values())
    return [m for item in data for m in measures(item)] if isinstance(data, list) else []


#: Estimates whose limits are `lo` and `hi`, without a stem: the first of them in a table.
ESTIMATES = ("est", "d", "g", "change", "f", "m", "csr", "measured", "log_odds", "d_csr", "difference")


def triples(columns: Iterable[str]) -> list[tuple[str, str, str]]:
    """Columns (estimate, lower limit, upper limit) of a table.

    Raises:
        AssertionError: Limits without an estimate, or one limit without the other.
    """
    names, found = list(columns), []
    for low in (name for name in names if name == "lo" or name.endswith("_lo")):
        stem = low[:-3]
        est = stem or next((name for name in ESTIMATES if name in names), "")
        high = f"{stem}_hi" if stem else "hi"
        assert high in names, f"{low} has no upper limit among {names}"
        if stem == "worst":  # bounds of D, not limits of an interval
            est = "d"
        assert est in names, f"{low} has no estimate among {names}"
        found.append((est, low, high))
    return found


def excluded(table: pd.DataFrame) -> tuple[int, list[Any]]:
    """Count a table's intervals, and list those that exclude their estimate, or have none."""
    count, outside = 0, []
    for est, lo, hi in triples(str(name) for name in table):
        rows = table[[est, lo, hi]].astype(float)
        count += int((rows[lo].notna() & rows[est].notna()).sum())
        wrong = rows[(rows[lo] > rows[est]) | (rows[hi] < rows[est])]
        wrong = wrong if lo == "worst_lo" else pd.concat([wrong, rows[rows[est].isna() & rows[lo].notna()]])
        outside += [(est, row) for row in wrong.to_dict("records")]
    return count, outside


def check_intervals(folder: Path) -> int:
    """Check that no interval of results.json or of a table excludes its estimate.

    Returns:
        The number of intervals.
    """
    count = 0
    for m in measures(json.loads((folder / "results.json").read_text())):
        check_m(m)
        count += m["lo"] is not None
    for path in sorted((folder / "tables").glob("*.parquet")):
        intervals, outside = excluded(pd.read_parquet(path))
        assert not outside, (path.stem, outside[:3])
        count += intervals
    return count


def check_tables(folder: Path) -> int:
    """Check that results.json and the tables of a run hold the same numbers, with one leakage, the cross-fitted one.

    Figures read the tables, so that this and tests/plots/test_numbers.py tie every drawn number to results.json.

    Returns:
        The number of compared numbers.
    """
    results = json.loads((folder / "results.json").read_text())
    read = {name: pd.read_parquet(folder / "tables" / f"{name}.parquet") for name in ("methods", "values", "leakage")}
    entries = {(entry["method"], entry["target_gain"]): entry for entry in results["conditions"]}
    count = 0

    def same(first: Any, second: Any) -> None:
        nonlocal count
        count += 1
        first, second = (float("nan") if x is None or pd.isna(x) else float(x) for x in (first, second))
        assert (
            first == second
            or math.isclose(first, second, rel_tol=1e-12, abs_tol=1e-12)
            or (first != first and second != second)
        )

    for row in read["methods"].to_dict("records"):
        target = None if pd.isna(row["target_gain"]) else row["target_gain"]
        entry = entries.pop((row["method"], target))
        assert row["reached"] == entry["reached"]
        for name in ("csr", "gain", "gain_measurable", "wrong_way", "leakage", "nlr", "ngl"):
            if name in row:  # runs of version 0.1 have no leakage and no shares in this table
                same(row[name], entry[name]["est"])
                same(row[f"{name}_lo"], entry[name]["lo"])
                same(row[f"{name}_hi"], entry[name]["hi"])
        same(row["invalid"], entry["invalid"]["est"])
        for column, metric, side in (
            ("ppl", "perplexity", "edited"), ("ppl_base", "perplexity", "base"), ("kl", "kl", "edited"),
            ("acc", "accuracy", "edited"), ("acc_base", "accuracy", "base"),
        ):  # fmt: skip
            same(row[column], entry["capability"].get(metric, {}).get(side, {}).get("est"))
        values, cells = (
            t[
                (t["method"] == row["method"])
                & (t["target_gain"].isna() if target is None else t["target_gain"] == target)
            ]
            for t in (read["values"], read["leakage"])
        )
        own = cells[cells["steered"] == cells["measured"]].set_index("steered")["d"]
        for value in values.to_dict("records"):
            same(value["gain"], own[value["steered"]])
        same(row["gain"], values["gain"].mean())
        same(entry["leakage"]["est"], values["leakage"].astype(float).mean(skipna=False))
        if pd.notna(row["nlr"]):
            same(row["nlr"], values["leakage"].sum() / values["gain"].sum())
        if target in (None, results["target_gain"]):
            one = results["methods"][row["method"]]
            for value in values.to_dict("records"):
                cell = one["per_value"][value["steered"]]
                assert value["status"] == cell["status"]
                same(value["gain"], cell["gain"]["est"])
                same(value["leakage"], cell["leakage"]["est"])
                if "wrong_way" in value:
                    same(value["wrong_way"], cell["wrong_way"]["est"])
                same(value["dose"], cell["dose"])
            doses = [value["dose"] for value in values.to_dict("records") if pd.notna(value["dose"])]
            same(row["dose"], float(pd.Series(doses).median()) if doses else None)
    assert not entries, f"conditions without a row: {list(entries)}"
    return count


def check_results(folder: Path, steered: tuple[str, ...], methods: tuple[str, ...]) -> dict[str, Any]:
    """Read and check results.json of a finished run folder."""

    def refuse(token: str) -> None:
        raise AssertionError(f"results.json holds {token}")

    results: dict[str, Any] = json.loads((folder / "results.json").read_text(), parse_constant=refuse)
    assert set(results) >= TOP and results["schema"] == 1 and results["manifest"] == "manifest.json"
    assert all(math.isfinite(x) for x in numbers(results))
    assert tuple(results["values"]) == steered and tuple(results["methods"]) == methods
    for name, entry in results["methods"].items():
        assert set(entry) >= METHOD
        assert entry["gate"] == gate_name(name, relevance=results["model"]["name"] == "demo")
        for key in ("csr", "csr_base", "gain", "leakage", "nlr", "ngl", "invalid"):
            check_m(entry[key])
        check_m(entry["circle"]["rho"])
        for m in entry["fluency"].values():
            check_m(m)
        assert {"perplexity", "kl"} <= set(entry["capability"])
        for pair in entry["capability"].values():
            assert set(pair) == {"base", "edited"}
            check_m(pair["base"])
            check_m(pair["edited"])
        assert tuple(entry["per_value"]) == steered
        statuses = [cell["status"] for cell in entry["per_value"].values()]
        for cell in entry["per_value"].values():
            assert set(cell) >= VALUE
            for key in ("gain", "leakage", "csr", "csr_base", "invalid"):
                check_m(cell[key])
        if entry["target_gain"] is None:
            assert entry["reached"] == "own gain" and set(statuses) == {"own gain"}
        else:
            assert entry["target_gain"] == results["target_gain"]
            lender = find_method(name).dose_of
            count = "-" if lender else f"{statuses.count('reached')}/{len(steered)}"
            assert entry["reached"] == count
            assert set(statuses) <= ({f"dose of {lender}"} if lender else {"reached", "unreached"})
    conditions = {(row["method"], row["target_gain"]) for row in results["conditions"]}
    assert {(name, entry["target_gain"]) for name, entry in results["methods"].items()} <= conditions
    manifest = json.loads((folder / "manifest.json").read_text(), parse_constant=refuse)
    assert set(manifest) >= MANIFEST and manifest["finished"] is True and manifest["values"] == list(VALUES)
    for table in TABLES:
        assert (folder / "tables" / f"{table}.parquet").is_file() and (folder / "tables" / f"{table}.csv").is_file()
    assert check_intervals(folder) > 20
    assert check_tables(folder) > 20
    assert not list(folder.rglob("*.tmp*")) and not list(folder.rglob("*.pkl"))
    return results
