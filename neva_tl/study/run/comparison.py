"""NLR of each method compared with the main method's.

Both are computed on the same bootstrap draws, over the values that both methods reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.core.theories import find_theory
from neva_tl.evaluation.conditions.leakage import assemble
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.evaluation.measures.result import NlrComparison, compare_nlr
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.scorers import from_frame

MAIN = "neva"


def stored_responses(
    store: RunFolder,
    method: str,
    target: float | None,
    values: list[str],
    kind: str = "score",
    *,
    judge: str = "",
    unit: str = "",
) -> Responses | None:
    """Read the item scores of a method's conditions at one target.

    Args:
        store: The run folder.
        method: Name of the method.
        target: Matched gain; None for a method without a dose.
        values: Steered values.
        kind: `score`, `net` or `affirmation`.
        judge: Name of the judge.
        unit: Unit of the scores.

    Returns:
        The scores; None where the run has none of this kind.
    """
    names = {v: f"cells/measure/{method}/{v}@{target}" for v in values}
    return responses_of(store, method, names, kind, judge=judge, unit=unit)


def responses_of(
    store: RunFolder, label: str, cells: Mapping[str, str], kind: str = "score", *, judge: str = "", unit: str = ""
) -> Responses | None:
    """Read the item scores of some cells and of the unedited model.

    Args:
        store: The run folder.
        label: Name of the conditions.
        cells: Steered value -> name of its cell.
        kind: `score`, `net` or `affirmation`.
        judge: Name of the judge.
        unit: Unit of the scores.

    Returns:
        The scores; None where the run has none of this kind.
    """
    base = store.read_table("cells/base.items")
    shared = _same_items(base) and (base["measured"].nunique() > 1 or store.has("cells/base.texts.parquet"))
    unedited = from_frame(base, kind, shared=shared)
    if unedited is None:
        return None
    edited = {v: from_frame(store.read_table(f"{name}.items"), kind, shared=shared) for v, name in cells.items()}
    complete = {v: items for v, items in edited.items() if items is not None}
    manifest = store.read_json("manifest.json") if store.has("manifest.json") else {}
    theory = find_theory(manifest["theory"]) if manifest.get("theory") else None
    return assemble(label, replace(unedited, theory=theory), complete, judge=judge, unit=unit)


def _same_items(base: pd.DataFrame) -> bool:
    rows = base[base["kind"] == "score"]
    return rows.groupby("measured")["cluster"].apply(tuple).nunique() == 1


def paired_nlr(
    store: RunFolder, ours: str, other: str, target: float, values: list[str], *, seed: int, n_boot: int
) -> NlrComparison:
    """Compare the NLRs of two methods at one target gain on the same draws.

    Args:
        store: The run folder.
        ours: First method.
        other: Second method.
        target: Matched gain.
        values: Steered values.
        seed: Seed of the bootstrap.
        n_boot: Bootstrap draws.
    """
    a, b = (stored_responses(store, method, target, values) for method in (ours, other))
    assert a is not None
    assert b is not None
    return compare_nlr(a, b, values, seed=seed, n_boot=n_boot)


def nlr_comparison(store: RunFolder, seed: int = 0, n_boot: int = 2000) -> pd.DataFrame:
    """Compute ratio and difference of NLR(neva) to each other method's NLR.

    Methods are compared at the same target gain.

    Args:
        store: The run folder.
        seed: Seed of the bootstraps.
        n_boot: Bootstrap draws.

    Returns:
        `method, target_gain, n_values, nlr_neva, nlr, ratio, ratio_lo, ratio_hi, difference, difference_lo,
        difference_hi`; null where a gain or the other's leakage is within noise of 0.

    Raises:
        InputError: The run did not measure `neva`.

    Example:
        >>> reopened = nv.Run.open("runs/demo")  # doctest: +SKIP
        >>> table = nv.study.nlr_comparison(reopened.store)  # doctest: +SKIP
    """
    values = store.read_table("tables/values")
    if MAIN not in set(values["method"]):
        raise InputError(f"{store.root} did not measure {MAIN}: there is nothing to compare the baselines with")
    rows: list[dict[str, Any]] = []
    reached = values[values["status"] == "reached"]
    for key, group in reached.groupby(["method", "target_gain"]):
        method, target = str(key[0]), float(str(key[1]))
        ours = reached[(reached["method"] == MAIN) & (reached["target_gain"] == target)]
        common = [v for v in ours["steered"] if v in set(group["steered"])]
        if method == MAIN or not common:
            continue
        comparison = paired_nlr(store, MAIN, method, target, common, seed=seed, n_boot=n_boot)
        row: dict[str, Any] = {"method": method, "target_gain": target, "n_values": len(common)}
        row |= {"nlr_neva": comparison.nlr_a.est, "nlr": comparison.nlr_b.est}
        rows.append(row | comparison.ratio.columns("ratio") | comparison.difference.columns("difference"))
    return pd.DataFrame(rows)
