"""Choice of the two conditions that a paper sets side by side."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from neva_tl.core.method_records import METHODS, Method
from neva_tl.plots.style import at_gain, conditions

#: What is compared first: a method on neurons, then a vector, then a prompt; placebos come last.
FAMILIES = ("neurons", "vectors", "prompt", "placebo")


def two_conditions(table: pd.DataFrame, records: Mapping[str, Method] = METHODS) -> list[tuple[str, str, float]]:
    """Return the first condition on neurons and the first of another kind, at the largest target gain.

    Args:
        table: A table with `method`; optionally gate and target_gain.
        records: Records of the methods; unknown names count as vectors.

    Returns:
        One or two (method, gate, target_gain).
    """
    rows = conditions(at_gain(table))

    def rank(row: tuple[str, str, float]) -> int:
        record = records.get(row[0])
        return FAMILIES.index(record.family if record else "vectors")

    ranked = sorted(rows, key=rank)  # stable: within a family the order of figures
    first = ranked[:1]
    second = [row for row in ranked if rank(row) != rank(first[0])][:1] if first else []
    return first + (second or ranked[1:2])
