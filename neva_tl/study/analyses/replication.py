"""The same comparison on several models.

It shows whether a result depends on one training run, or on the number of words that values share. Each comparison
(`study.analyses.method_comparison`) is one replicate; over the replicates of one world every number has a mean and a range.
With few replicates a range is more informative than an interval. Ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.study.analyses.method_comparison import combined, contests, folders

#: Columns that are averaged over replicates.
NUMBERS = ("gain", "nlr", "nlr_plain", "ngl", "invalid", "kl", "loss_ppl", "loss_acc")
KEYS = ["border_rate", "method", "gate", "target_gain"]


def replicates(roots: Mapping[str, Path], *, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Collect the conditions and contests of several comparisons.

    Args:
        roots: Name of a replicate -> folder of its comparison.
        seed: Seed of the contests' bootstraps.

    Returns:
        The tables of `combined` and of `contests`, with first columns `replicate` and `border_rate` (share of a value's words
        that each neighbour has too; null where the model is not a demo model).

    Raises:
        InputError: A folder has no finished study, or no folder was named.
    """
    if not roots:
        raise InputError("no comparison was named: give the folders that analyses/method_comparison.py wrote")
    tables: list[list[pd.DataFrame]] = [[], []]
    for name, root in roots.items():
        studies = folders(root)
        rate = border_rate(next(iter(studies.values())).read_json("manifest.json"))
        for tables_of_kind, table in zip(tables, (combined(studies), contests(studies, seed=seed)), strict=True):
            table.insert(0, "replicate", name)
            table.insert(1, "border_rate", rate)
            tables_of_kind.append(table)
    conditions, contest_rows = (pd.concat(tables_of_kind, ignore_index=True) for tables_of_kind in tables)
    return conditions, contest_rows


def border_rate(manifest: Mapping[str, Any]) -> float | None:
    """Return the border rate of a study's demo world.

    Args:
        manifest: The study's manifest.

    Returns:
        The rate; None where the model is not a demo model.
    """
    world = manifest.get("world")
    return None if world is None else float(world["border_rate"])


def over_replicates(conditions: pd.DataFrame) -> pd.DataFrame:
    """Compute mean and range of every number over the replicates of one world.

    Args:
        conditions: First table of `replicates`.

    Returns:
        One row per `border_rate, method, gate, target_gain`: `replicates`, `reached` (values that reached the gain, of all
        values of all replicates), and per number `_mean`, `_low`, `_high` (null where no replicate has it).
    """
    rows = []
    for key, group in conditions.groupby(KEYS, dropna=False, sort=False):
        row: dict[str, Any] = dict(zip(KEYS, key if isinstance(key, tuple) else (key,), strict=True))
        row |= {"replicates": group["replicate"].nunique(), "reached": total_reached(list(group["reached"]))}
        for name in NUMBERS:
            numbers = pd.to_numeric(group[name], errors="coerce")
            row |= {f"{name}_mean": numbers.mean(), f"{name}_low": numbers.min(), f"{name}_high": numbers.max()}
        rows.append(row)
    return pd.DataFrame(rows)


def total_reached(texts: list[str]) -> str:
    """Add fractions: `["7/10", "9/10"]` gives `"16/20"`.

    Args:
        texts: Fractions; where one is not a fraction (`own gain`), the first text is returned.
    """
    parts = [text.split("/") for text in texts]
    if any(len(fraction) != 2 for fraction in parts):
        return texts[0]
    return f"{sum(int(reached) for reached, _ in parts)}/{sum(int(of) for _, of in parts)}"
