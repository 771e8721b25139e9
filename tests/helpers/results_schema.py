"""What DESIGN.md says of results.json, as assertions; the end-to-end tests of other folders load this file by its path."""

from __future__ import annotations

import json
import math
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


#: Columns (estimate, lower limit, upper limit) that do not share a stem.
LIMITS = {
    "leakage": [("d", "lo", "hi")],
    "neurons": [("g", "lo", "hi")],
    "effects": [("g", "lo", "hi")],
    "ablation": [("change", "lo", "hi")],
    "circuits": [("f", "lo", "hi")],
    "circuit": [("measured", "lo", "hi")],
}


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
        table = pd.read_parquet(path)
        stems = [name[:-3] for name in table if name.endswith("_lo") and name[:-3] in table]
        for est, lo, hi in [(s, f"{s}_lo", f"{s}_hi") for s in stems] + LIMITS.get(path.stem, []):
            if {est, lo, hi} <= set(table):
                rows = table[[est, lo, hi]].astype(float)
                outside = rows[(rows[lo] > rows[est]) | (rows[hi] < rows[est])]
                assert outside.empty, (path.stem, est, outside)
                count += int(rows[lo].notna().sum())
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
    assert not list(folder.rglob("*.tmp*")) and not list(folder.rglob("*.pkl"))
    return results
