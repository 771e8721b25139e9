"""Public sets before and after the edits of a finished run.

Each set in each condition is stored as soon as it is scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from neva_tl import models
from neva_tl.core.cache import content_key
from neva_tl.core.errors import InputError
from neva_tl.core.messages import say
from neva_tl.editing import Edit
from neva_tl.evaluation.benchmarks import (
    Benchmark,
    Scores,
    Span,
    compare_capability,
    mean_over_conditions,
    score_benchmark,
)
from neva_tl.study.analyses.reopened_run import Run, RunEdit
from neva_tl.study.run.optional import left_out, line_of, optional
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.summary import reached

#: Columns of the table, in order.
COLUMNS = (
    "set", "metric", "method", "value", "target_gain", "dose", "status", "base", "edited", "difference", "lo", "hi", "p",
    "lost", "won", "n", "interval", "span",
)  # fmt: skip


def unedited_scores(
    store: RunFolder, model: models.Model, benchmarks: Sequence[Benchmark], *, progress: bool = False
) -> dict[str, Scores]:
    """Score every set on the unedited model; leave out a set that does not fit the model, with its reason.

    Args:
        store: Folder that stores the scores, under `capability/`.
        model: The loaded model.
        benchmarks: The sets.
        progress: Show progress on stderr.

    Returns:
        Name of a set -> scores.

    Raises:
        InputError: No set can be scored.
    """
    scores: dict[str, Scores] = {}
    for one in benchmarks:
        with optional(store, f"Public set {one.name}"):
            scores[one.name] = _scored(store, model, one, (), "unedited", "text", {}, progress)
    if benchmarks and not scores:
        raise InputError(f"no set can be scored ({'; '.join(line_of(record) for record in left_out(store))})")
    return scores


def run_capability(
    store: RunFolder,
    run: Run,
    model: models.Model,
    benchmarks: Sequence[Benchmark],
    methods: Sequence[str],
    values: Sequence[str] = (),
    *,
    target: float | None = None,
    span: Span = "text",
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Score sets under a run's edits, and compare with the unedited model.

    Edits have the run's matched doses; the items are the same in all conditions.

    Args:
        store: Folder that stores the scores of items, under `capability/`; a killed call resumes there.
        run: The finished run.
        model: Its loaded model.
        benchmarks: The sets.
        methods: Methods of the run.
        values: Values of the run; empty takes all of them.
        target: Matched gain; None takes the run's headline.
        span: See `score_benchmark`.
        seed: Seed of intervals and tests.
        progress: Show progress on stderr.

    Returns:
        One row per set, metric, method and value, and one per method whose value is `mean of N values` (its interval covers
        the items, its test is NaN): `set, metric, method, value, target_gain, dose, status, base, edited, difference, lo, hi,
        p, lost, won, n, interval, span`.

    Raises:
        InputError: The run lacks a method, value or file.
    """
    edits = run.edits(model, methods, values, target)
    base = unedited_scores(store, model, benchmarks, progress=progress)
    benchmarks = [one for one in benchmarks if one.name in base]
    scores_of: dict[str, list[tuple[RunEdit, dict[str, Scores]]]] = {method: [] for method in methods}
    for one in edits:
        about = {"study": run.manifest["study"], "method": one.method, "value": one.value, "dose": one.dose}
        name = f"{one.method} to {one.value}"
        scores = {b.name: _scored(store, model, b, (one.edit,), name, span, about, progress) for b in benchmarks}
        scores_of[one.method].append((one, scores))
    parts = []
    for method, conditions in scores_of.items():
        target_gain = conditions[0][0].target
        for one, scores in conditions:
            table = compare_capability(base, scores, seed=seed).df
            parts.append(table.assign(value=one.value, dose=one.dose, status=one.status, method=method))
        for benchmark in benchmarks:
            name = benchmark.name
            table = mean_over_conditions(base[name], [scores[name] for _, scores in conditions], seed=seed)
            count = reached([one.status for one, _ in conditions])
            about = {"set": name, "value": f"mean of {len(conditions)} values", "dose": None, "method": method}
            parts.append(table.assign(**about, status=f"reached {count}" if "/" in count else count))
        for table in parts[-len(conditions) - len(benchmarks) :]:
            table["target_gain"] = target_gain
    rows = [row for table in parts for row in table.assign(span=span).to_dict("records")]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"dose": float, "target_gain": float})


def _scored(
    store: RunFolder,
    model: models.Model,
    benchmark: Benchmark,
    edits: Sequence[Edit],
    condition: str,
    span: Span,
    about: dict[str, Any],
    progress: bool,
) -> Scores:
    """Return the scores of a set in a condition, from the folder or scored into it."""
    weights = models.fingerprint(model)["weights_hash"]
    name = f"capability/{content_key(weights, benchmark.key, span if edits else '', about)[:24]}"
    if store.has(f"{name}.parquet"):
        return Scores(benchmark.name, benchmark.kind, benchmark.key, condition, store.read_table(name))
    say(f"{benchmark.name} ({len(benchmark)} of {benchmark.total} items), {condition}", progress)
    scores = score_benchmark(model, benchmark, edits, span=span, condition=condition, progress=progress)
    store.write_table(name, scores.table, csv=False)
    return scores
