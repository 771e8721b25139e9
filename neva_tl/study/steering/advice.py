"""Sentences that say what would help where a gain is out of reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neva_tl.core.neuron_set import NeuronSet


def advice(
    status: str,
    target: float,
    record: Mapping[str, Any],
    value: str,
    neurons: NeuronSet,
    training_rows: int,
    selector: str,
) -> str:
    """Say how far an edit got and what would help; empty where the gain was reached.

    Args:
        status: `reached` or `unreached`.
        target: The requested gain.
        record: Record of the calibration (`best`, `table`).
        value: The concept.
        neurons: The selected neurons.
        training_rows: Training texts of the concept.
        selector: The selector's name.
    """
    if status == "reached":
        return ""
    table = record["table"]
    admissible = [row for row in table if row["admissible"]]
    if not admissible:
        return f"every dose tried breaks the texts (smallest {table[0]['dose']:.3g}): select fewer neurons (k)"
    best = max(admissible, key=lambda row: row["gain"])
    sentences = [
        f"gain {target:g} towards {value} is out of reach: {best['gain']:.2f} on validation at dose {best['dose']:.3g}, the best "
        "admissible one"
    ]
    largest = max(table, key=lambda row: abs(row["dose"]))
    if largest["admissible"] and best is largest:
        sentences.append("the gain still rises at the largest dose of the grid")
    others = {"margin": "neva", "neva": "margin"}
    sentences.append(
        f"more pairs (now {training_rows // 2} for training, {len(neurons)} neurons selected) or another selector "
        f"(now {selector}; try {others.get(selector, 'margin')}) may help"
    )
    return "; ".join(sentences)
