"""Write a finished study's tables, results.json and figures from its cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.messages import progress_bar
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Edit
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.evaluation.measures.result import LeakageResult, measure
from neva_tl.methods import gate_name
from neva_tl.study.run import summary
from neva_tl.study.run.cell_runner import CellRunner
from neva_tl.study.run.comparison import stored_responses
from neva_tl.study.run.control import Controls, read_controls
from neva_tl.study.run.optional import bring_back, leave_out, left_out, optional

Plan = Sequence[tuple[str, float | None]]

#: Measure that a theory may lack -> its name among the parts that were left out.
THEORY_PARTS = {"leakage": "Leakage, NLR", "ngl": "NGL", "circle": "Circle test"}

#: Methods with example texts where the judge reads none: ours, plain CAA, and the vectors that leak least under one gate.
SHOWN = ("neva", "neva_shift", "caa", "caa_projected", "caa_projected_probe", "role")
#: Columns of the table `ablation`, and those of `generations` that every judge fills.
ABLATION_COLUMNS = ("value", "operation", "base", "ablated", "change", "lo", "hi", "n")
TEXT_COLUMNS = ("method", "steered", "target_gain", "prompt", "text", "valid")


def write_all(
    cells: CellRunner,
    plan: Plan,
    steered: Sequence[str],
    edit_of: Callable[[str, str], Edit],
    neurons: Mapping[str, NeuronSet],
    *,
    jobs: int = 1,
) -> None:
    """Write the tables (parquet and CSV), the figures and results.json.

    Optional parts that cannot be made are left out; results.json names them with their reasons.

    Args:
        cells: The study's cells.
        plan: (method, target gain) of every condition.
        steered: Steered values.
        edit_of: (method, value) -> edit.
        neurons: Value -> its neurons.
        jobs: Processes that draw figures.
    """
    store, base = cells.store, cells.base
    gated = cells.config.gate == "relevance"
    seed, n_boot, about = cells.config.seed, cells.profile.n_boot, cells.scorer.about()
    controls = read_controls(store, steered, judge=about["judge"], unit=about["unit"], seed=seed, n_boot=n_boot)
    entries: list[tuple[str, dict[str, Any]]] = []
    undefined: Mapping[str, str] = {}
    leaks, doses = [], []
    for method, target in progress_bar(plan, desc="measures", unit="condition"):
        record = {v: store.read_json(f"cells/measure/{method}/{v}@{target}.json") for v in steered}
        result = result_of(cells, method, target, steered)
        undefined = result.undefined
        measurable = None if controls is None else controls.gain_of(result.responses, seed=seed, n_boot=n_boot)
        entry = summary.method_entry(gate_name(method, gated), target, result, record, base, measurable)
        entries.append((method, entry))
        leaks.append(result.table().assign(gate=gate_name(method, gated), target_gain=target))
    for method in dict.fromkeys(m for m, _ in plan):
        for value in steered:
            name = f"cells/dose/{method}/{value}.json"
            if store.has(name):
                rows = pd.DataFrame(store.read_json(name)["table"])
                doses.append(
                    rows.assign(method=method, gate=gate_name(method, gated), steered=value, split="validation")
                )
    methods = pd.DataFrame([summary.method_row(entry, method) for method, entry in entries])
    store.write_table("tables/methods", methods)
    store.write_table("tables/leakage", pd.concat(leaks, ignore_index=True))
    store.write_table("tables/values", pd.DataFrame([r for m, e in entries for r in summary.values_rows(e, m)]))
    if controls is not None:
        store.write_table("tables/controls", controls.table())
    if doses:
        table = pd.concat(doses, ignore_index=True)
        # a judge that measures only the target during the search gives no leakage; figures read the column
        table = table if "leakage" in table else table.assign(leakage=np.nan)
        store.write_table("tables/dose", table.astype({"leakage": float}))
    ablation = ablation_table(cells, steered)
    store.write_table("tables/ablation", ablation)
    generations = pd.DataFrame(columns=list(TEXT_COLUMNS))
    with optional(store, "Texts"):
        generations = _generations(cells, plan, steered, edit_of)
    store.write_table("tables/generations", generations)
    _check_measures(cells, entries, steered, undefined)
    with optional(store, "Figures", errors=(Exception,)):
        _figures(cells, jobs)
    # written last, because it names the figures that were left out
    store.write_json("results.json", _results(cells, entries, steered, ablation, neurons, controls))


def _check_measures(
    cells: CellRunner,
    entries: Sequence[tuple[str, Mapping[str, Any]]],
    steered: Sequence[str],
    undefined: Mapping[str, str],
) -> None:
    """Record the measures that no condition of this study defines.

    Args:
        cells: The study's cells.
        entries: Method and entry of results.json of every condition.
        steered: Steered values.
        undefined: Measure that the theory cannot have -> the reason (`LeakageResult.undefined`).
    """
    for name, part in THEORY_PARTS.items():
        # one measured value leaves everything out for one reason, which one line states
        if name in undefined and ("leakage" not in undefined or name == "leakage"):
            leave_out(cells.store, part, undefined[name])
        else:
            bring_back(cells.store, part)
    if "circle" not in undefined and all(entry["circle"]["p"] is None for _, entry in entries):
        n = sum(name != other for name in steered for other in cells.scorer.values)
        leave_out(
            cells.store,
            "Circle test",
            f"it needs at least three pairs of a steered and another measured value, and this study has {n}"
            if n < 3
            else "no condition has a change of every measured value, or all changes are equal",
        )
    if cells.base["n_texts"] and cells.base["invalid"] >= 1:
        leave_out(
            cells.store,
            "Check of texts",
            f"all {cells.base['n_texts']} texts of the unedited model are invalid, so the share of invalid texts limits no dose",
        )


def result_of(cells: CellRunner, method: str, target: float | None, steered: Sequence[str]) -> LeakageResult:
    """Compute all leakage measures of one method at one target.

    Args:
        cells: The study's cells.
        method: Name of the method.
        target: Matched gain; None for a method without a dose.
        steered: Steered values.
    """
    about = cells.scorer.about()

    def responses(kind: str, unit: str) -> Responses | None:
        return stored_responses(cells.store, method, target, list(steered), kind, judge=about["judge"], unit=unit)

    scores = responses("score", about["unit"])
    assert scores is not None
    return measure(
        scores,
        net=responses("net", f"{about['unit']} - P(opposes)"),
        affirmation=responses("affirmation", about["unit"]),
        seed=cells.config.seed,
        n_boot=cells.profile.n_boot,
        n_permutations=999 if cells.config.profile == "quick" else 9999,
    )


def ablation_table(cells: CellRunner, steered: Sequence[str]) -> pd.DataFrame:
    """Compute the effect of ablations on prompts that express a value.

    Args:
        cells: The study's cells.
        steered: Values.

    Returns:
        One row per value and ablation: mean score before and after, the change, and its interval (paired, by cluster).
        A value whose ablation was left out has no rows.
    """
    from neva_tl.core.statistics import cluster_bootstrap

    rows = []
    for value in steered:
        if not cells.store.has(f"cells/ablation/{value}.parquet"):
            continue
        items = cells.store.read_table(f"cells/ablation/{value}")
        wide = items.pivot(index="item", columns="operation", values="score")
        cluster = items[items["operation"] == "none"].set_index("item")["cluster"].loc[wide.index].to_numpy(dtype=str)
        for operation in ("zero", "mean"):
            change = (wide[operation] - wide["none"]).to_numpy(dtype=float)
            rng = np.random.default_rng(cells.config.seed)
            estimate = cluster_bootstrap(change, cluster, np.mean, n=cells.profile.n_boot, rng=rng)
            rows.append(
                {
                    "value": value,
                    "operation": operation,
                    "base": float(wide["none"].mean()),
                    "ablated": float(wide[operation].mean()),
                    "change": float(change.mean()),
                    "lo": float(estimate.lo),
                    "hi": float(estimate.hi),
                    "n": len(change),
                }
            )
    return pd.DataFrame(rows, columns=list(ABLATION_COLUMNS))


def _generations(
    cells: CellRunner, plan: Plan, steered: Sequence[str], edit_of: Callable[[str, str], Edit]
) -> pd.DataFrame:
    """Return every text with its prompt, condition and scores.

    Where the judge reads no texts, returns example texts of a few values.
    """
    store = cells.store
    if cells.scorer.reads:
        frames = [store.read_table("cells/base.texts").assign(method="unedited", steered=None, target_gain=None)]
        for method, target in plan:
            for value in steered:
                texts = store.read_table(f"cells/measure/{method}/{value}@{target}.texts")
                frames.append(texts.assign(method=method, steered=value, target_gain=target))
        return pd.concat(frames, ignore_index=True).astype({"steered": "string", "target_gain": "Float64"})
    profile = cells.profile
    sampled_values = steered[:: max(1, len(steered) // profile.text_values)][: profile.text_values]
    conditions: list[tuple[str, str, float | None, Edit | None]] = [("unedited", "", None, None)]
    for method, target in plan:
        if method not in SHOWN or target not in (None, profile.targets[-1]):
            continue
        for value in sampled_values:
            dose = store.read_json(f"cells/measure/{method}/{value}@{target}.json")["dose"]
            edit = edit_of(method, value)
            conditions.append((method, value, target, edit if dose is None else edit.with_dose(dose)))
    prompts = list(cells.scorer.prompts["test"]["text"][: profile.text_prompts])
    return cells.example_texts(conditions, prompts)


def _results(
    cells: CellRunner,
    entries: Sequence[tuple[str, dict[str, Any]]],
    steered: Sequence[str],
    ablation: pd.DataFrame,
    neurons: Mapping[str, NeuronSet],
    controls: Controls | None,
) -> dict[str, Any]:
    """Return the content of results.json.

    `methods` holds the headline conditions (the largest gain), `conditions` every condition, `controls` the positive control
    (absent where the judge needs none).
    """
    from neva_tl import models

    top = cells.profile.targets[-1]
    headline = {m: e for m, e in entries if e["target_gain"] in (None, top)}
    info = models.info(cells.model)
    return {
        "schema": 1,
        "model": {"name": info.name, "architecture": info.architecture, "n_layers": info.n_layers, "d_mlp": info.d_mlp},
        "values": list(steered),
        **cells.scorer.about(),
        "target_gain": top,
        **({} if controls is None else {"controls": controls.to_json()}),
        "methods": headline,
        "conditions": [{"method": m, **{k: v for k, v in e.items() if k != "per_value"}} for m, e in entries],
        "neurons": {
            name: {"k": len(neuron_set), "layers": list(neuron_set.layers)} for name, neuron_set in neurons.items()
        },
        "ablation": ablation.to_dict("records"),
        "vector_layers": cells.store.read_json("cells/vector_layers.json")["layers"],
        "left_out": left_out(cells.store),
        "manifest": "manifest.json",
    }


def _figures(cells: CellRunner, jobs: int) -> None:
    """Draw all figures whose tables the run has, as PDF and PNG; leave out those that cannot be drawn."""
    from neva_tl.plots.files import write_figures

    reasons: dict[str, str | None] = {}
    write_figures(cells.store.root, jobs=jobs, failed=reasons)
    for name, reason in reasons.items():
        if reason is None:
            bring_back(cells.store, f"Figure {name}")
        else:
            leave_out(cells.store, f"Figure {name}", reason)
