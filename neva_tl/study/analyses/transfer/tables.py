"""Tables of a transfer study."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from neva_tl.core.statistics import overlap
from neva_tl.evaluation.conditions.leakage import assemble
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.evaluation.measures.result import LeakageResult, measure
from neva_tl.study.analyses.transfer.config import TransferConfig
from neva_tl.study.analyses.transfer.result import ALL
from neva_tl.study.analyses.transfer.scored import Scored
from neva_tl.study.analyses.transfer.selected import Selected


def rows_of(a: Selected, b: Scored, method: str, config: TransferConfig) -> list[dict[str, Any]]:
    """Score the edits of one selection on the items of a source: one row per value, and one for all.

    Args:
        a: Edits with their doses.
        b: The items. Values that one of them lacks are left out; without any, there are no rows.
        method: Registered name.
        config: Settings.
    """
    values = [value for value in a.values if value in b.measured]
    if not values:
        return []
    base = b.base()
    edited = {value: b.scores(a.edits[method, value], f"{a.folder}/{method}/{value}") for value in values}
    responses = assemble(method, base, edited, **b.scorer.about())
    head = {"source": a.name, "scored": b.name, "method": method}
    tail = {"system": b.system, "seen": seen(a, b)}
    rows = []
    for value in values:
        result = _measured(responses.select([value]), config)
        dose_columns = {"dose": a.edits[method, value].dose, "status": a.status[method, value]}
        change = edited[value].extra["affirmation"][0].mean() - base.extra["affirmation"][0].mean()
        counts = {"affirmation": float(change), "n": len(base.scores[base.values.index(value)]), "n_values": 1}
        rows.append(head | {"value": value} | dose_columns | _numbers(result) | counts | tail)
    together = {"value": ALL, "dose": None, "status": ""}
    mean = float(pd.Series([row["affirmation"] for row in rows]).mean())
    counts = {"affirmation": mean, "n": responses.n, "n_values": len(values)}
    return [*rows, head | together | _numbers(_measured(responses, config)) | counts | tail]


def seen(a: Selected, b: Scored) -> str:
    """Return the conditions that selection and scored items share: both, source, phrasing or neither.

    Args:
        a: The selection.
        b: The items.
    """
    source, phrasing = b.source in a.sources, b.systems <= a.systems
    return "both" if source and phrasing else "source" if source else "phrasing" if phrasing else "neither"


def _measured(responses: Responses, config: TransferConfig) -> LeakageResult:
    return measure(responses, n_boot=config.n_boot, n_permutations=1, seed=config.seed)


def _numbers(result: LeakageResult) -> dict[str, float | None]:
    gain, nlr = result.gain, result.nlr
    out = {"gain": gain.est, "gain_lo": gain.lo, "gain_hi": gain.hi, "leakage": result.leakage.est}
    return out | {"nlr": nlr.est, "nlr_lo": nlr.lo, "nlr_hi": nlr.hi}


def shared_neurons(sources: Sequence[Selected], values: Sequence[str], total: int) -> pd.DataFrame:
    """Count the neurons that two sources share, and compare with chance.

    Args:
        sources: Sources with their neurons.
        values: Values.
        total: Number of neurons of the model.

    Returns:
        One row per value and pair of sources (see `statistics.overlap`).
    """
    rows = []
    for value in values:
        sets = {
            s.name: set(zip(s.neurons[value].df["layer"], s.neurons[value].df["neuron"], strict=True))
            for s in sources
            if value in s.values
        }
        for a, b in combinations(sets, 2):
            shared = overlap(sets[a], sets[b], total)
            row = {
                "value": value,
                "a": a,
                "b": b,
                "size_a": shared.size_a,
                "size_b": shared.size_b,
                "shared": shared.shared,
            }
            row |= {"expected": shared.expected, "jaccard": shared.jaccard, "jaccard_expected": shared.expected_jaccard}
            rows.append(row | {"p_more": shared.p_more})
    return pd.DataFrame(rows)
