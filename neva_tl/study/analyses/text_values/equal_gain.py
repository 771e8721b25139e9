"""Methods at doses of equal gain on *validation* prompts, measured on test prompts.

Leakage and divergence grow with gain, so methods are compared where they gain the same. The common gain of a neuron method and
a vector method is the smaller of their largest admissible validation gains; each method's dose is the smallest at which its
dose-response curve of the search for doses reaches it, linear between measured admissible doses, from (0, 0). Test prompts choose
nothing. `study.analyses.equal_gain` reads curves of test gains instead, which needs several matched gains. (Ours.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.core.method_records import find_method
from neva_tl.editing import Edit
from neva_tl.evaluation.measures import formulas
from neva_tl.evaluation.measures.estimate import Estimate, interval, null
from neva_tl.models import Model
from neva_tl.study.analyses.method_comparison import OURS
from neva_tl.study.analyses.reopened_run import Run
from neva_tl.study.analyses.text_values import tables
from neva_tl.study.analyses.text_values.conditions import Condition, JoinedRuns, read_cells
from neva_tl.study.analyses.text_values.resampling import MIN_VALUES, resampled_mean
from neva_tl.study.run.run_folder import RunFolder

#: Table of the doses in a run folder, and of the figures at them.
DOSES, TABLE = "tables/equal_validation_gain_doses", "tables/equal_validation_gain"
#: Largest relative difference of two doses that count as one.
SAME = 1e-9


def reaching_dose(curve: pd.DataFrame, gain: float) -> float | None:
    """Return the smallest dose at which a curve reaches a gain; None where it does not.

    Args:
        curve: Columns `dose`, `gain`, `admissible`.
        gain: A gain above 0.

    Example:
        >>> reaching_dose(pd.DataFrame({"dose": [1.0, 2.0], "gain": [0.1, 0.3], "admissible": True}), 0.2)
        1.5
    """
    low_dose, low_gain = 0.0, 0.0
    for dose, reached in _admissible(curve):
        if reached >= gain:
            return low_dose + (dose - low_dose) * (gain - low_gain) / (reached - low_gain)
        low_dose, low_gain = dose, reached
    return None


def _admissible(curve: pd.DataFrame) -> list[tuple[float, float]]:
    rows = curve[curve["admissible"].astype(bool)].sort_values("dose")
    return [(float(dose), float(gain)) for dose, gain in zip(rows["dose"], rows["gain"], strict=True)]


def matched_doses(curves: pd.DataFrame, ours: Sequence[str], rivals: Sequence[str]) -> pd.DataFrame:
    """Compute the doses of equal validation gain for each pair of methods and each value.

    Args:
        curves: Table `dose` of a run: `method, steered, dose, gain, admissible` on validation prompts.
        ours: Neuron methods.
        rivals: Vector methods.

    Returns:
        Columns value, ours, rival, validation_gain, dose_ours, dose_rival; only values on which both have a gain above 0.
    """
    rows = []
    for value in curves["steered"].unique():
        of_value = {str(m): group for m, group in curves[curves["steered"] == value].groupby("method")}
        for one in ours:
            for rival in rivals:
                if one not in of_value or rival not in of_value:
                    continue
                tops = [max((gain for _, gain in _admissible(of_value[m])), default=0.0) for m in (one, rival)]
                gain = min(tops)
                if gain <= 0:
                    continue
                doses = [reaching_dose(of_value[method], gain) for method in (one, rival)]
                rows.append(
                    {"value": str(value), "ours": one, "rival": rival, "validation_gain": gain}
                    | {"dose_ours": doses[0], "dose_rival": doses[1]}
                )
    return pd.DataFrame(rows, columns=["value", "ours", "rival", "validation_gain", "dose_ours", "dose_rival"])


def measure_equal_gain(run: Run, model: Model, ours: Sequence[str] = (), rivals: Sequence[str] = ()) -> pd.DataFrame:
    """Measure a text-judged run's methods on test prompts at doses of equal validation gain.

    A dose that the run measured already is not measured again. Every condition is a cell of the run folder: an interrupted call
    resumes. Writes the table `equal_validation_gain_doses`.

    Args:
        run: The run.
        model: Its model.
        ours: Neuron methods; empty takes those of neva_tl that the run searched doses for.
        rivals: Vector methods; empty takes all that the run searched doses for.

    Returns:
        The doses, with the cells of both methods.

    Raises:
        InputError: The run's judge read no texts, or the run has no pair of methods with a common gain.
    """
    store = run.store
    if not store.has("cells/base.texts.parquet"):
        raise InputError(f"the judge of {store.root} read no texts: its doses are matched at test gains (equal_gain)")
    curves = store.read_table("tables/dose") if store.has("tables/dose.parquet") else pd.DataFrame(columns=["method"])
    searched = [str(name) for name in curves["method"].unique()]
    ours = tuple(ours) or tuple(name for name in searched if name in OURS)
    rivals = tuple(rivals) or tuple(name for name in searched if find_method(name).family == "vectors")
    for name in (*ours, *rivals):
        if name not in searched:
            raise InputError(f"{store.root} searched no dose of {name!r}: it has {', '.join(searched) or 'none'}")
    doses = matched_doses(curves, ours, rivals)
    if not len(doses):
        raise InputError(f"{store.root} has no neuron method and vector with a common gain above 0: nothing to compare")
    todo: dict[str, tuple[str, tuple[Edit, ...], Mapping[str, Any]]] = {}
    built: dict[tuple[str, str], Edit] = {}
    for side in ("ours", "rival"):
        names = []
        for row in doses.to_dict("records"):
            method, value, dose = row[side], row["value"], float(row[f"dose_{side}"])
            name = _measured_cell(store, method, value, dose) or f"cells/equal_gain/{method}/{value}@{dose:.6g}"
            names.append(name)
            if name in todo or store.has(f"{name}.json"):
                continue
            if (method, value) not in built:
                (item,) = run.edits(model, [method], [value])
                built[method, value] = item.edit
            about = {"dose": dose, "status": f"validation gain {row['validation_gain']:.3f}"}
            todo[name] = (name, (built[method, value].with_dose(dose),), about)
        doses[f"cell_{side}"] = names
    if todo:
        run.cells(model).measure(list(todo.values()))
    store.write_table(DOSES, doses)
    return doses


def _measured_cell(store: RunFolder, method: str, value: str, dose: float) -> str | None:
    """Return the cell of the study that has this dose, if any."""
    for file in sorted((store.root / "cells/measure" / method).glob(f"{value}@*.json")):
        stored = store.read_json(str(file.relative_to(store.root)))["dose"]
        if stored is not None and abs(stored - dose) <= SAME * abs(dose):
            return str(file.relative_to(store.root).with_suffix(""))
    return None


def joined_table(joined: JoinedRuns) -> pd.DataFrame:
    """Tabulate the figures at doses of equal validation gain.

    Args:
        joined: One or more runs of `measure_equal_gain`; others are skipped.

    Returns:
        A row per pair of methods and value, and one for their mean (`all`): ours, rival, value, n_values, validation_gain,
        gain_ours, gain_rival and gain_difference (test prompts, with intervals), nlr_ours, nlr_rival, nlr_ratio, kl_ours,
        kl_rival, kl_ratio, perplexity_ratio_ours, perplexity_ratio_rival, invalid_ours, invalid_rival, dose_ours, dose_rival.
        Intervals of gains and NLR are over prompts (seeds, and values where there are three), those of KL ratios over values.
        A ratio of NLR is undefined where the rival's is within noise of 0.
    """
    sides: dict[tuple[str, str], dict[str, dict[str, dict[int, Condition]]]] = {}
    gains: dict[tuple[str, str, str], list[float]] = {}
    for store in joined.stores:
        if not store.has(f"{DOSES}.parquet"):
            continue
        base, seed = store.read_json("cells/base.json"), int(store.read_json("manifest.json")["seed"])
        doses = store.read_table(DOSES)
        for (ours, rival), group in doses.groupby(["ours", "rival"], sort=False):
            pair = sides.setdefault((str(ours), str(rival)), {"ours": {}, "rival": {}})
            for side, method in (("ours", str(ours)), ("rival", str(rival))):
                cells = dict(zip(group["value"], group[f"cell_{side}"], strict=True))
                options = {"seed": joined.seed, "n_boot": joined.n_boot}
                for one in read_cells(store, method, cells, seed, base, {}, **options):
                    pair[side].setdefault(one.value, {})[seed] = one
            for value, gain in zip(group["value"], group["validation_gain"], strict=True):
                gains.setdefault((str(ours), str(rival), str(value)), []).append(float(gain))
    rows = []
    for (ours, rival), pair in sides.items():
        values = list(pair["ours"])
        for value in values:
            alone = {side: {value: pair[side][value]} for side in ("ours", "rival")}
            about = {"ours": ours, "rival": rival, "value": value, "n_values": 1}
            rows.append(
                about | {"validation_gain": float(np.mean(gains[ours, rival, value]))} | _figures(joined, alone)
            )
        about = {"ours": ours, "rival": rival, "value": tables.ALL, "n_values": len(values)}
        mean = float(np.mean([np.mean(gains[ours, rival, value]) for value in values]))
        rows.append(about | {"validation_gain": mean} | _figures(joined, pair))
    table = pd.DataFrame(rows)
    return table.astype({c: float for c in table if c not in ("ours", "rival", "value", "n_values")})


def _figures(joined: JoinedRuns, pair: Mapping[str, tables.Cells]) -> dict[str, Any]:
    """Return the figures of both sides of a pair, and their comparison."""
    n, wide = len(pair["ours"]), len(pair["ours"]) >= MIN_VALUES
    texts = max(one.n for of_value in pair["ours"].values() for one in of_value.values())
    row: dict[str, Any] = {}
    drawn: dict[str, dict[str, np.ndarray]] = {}
    for side, cells in pair.items():
        drawn[side] = {name: tables.mean_draws(joined, cells, name, over_values=wide) for name in ("gain", "leakage")}
        row |= interval(drawn[side]["gain"][0], drawn[side]["gain"][1:], texts).columns(f"gain_{side}")
        row |= tables.nlr_of(joined, cells, over_values=wide).columns(f"nlr_{side}")
        row |= tables.cost_mean(joined, cells, "kl").columns(f"kl_{side}")
        for cost in ("perplexity_ratio", "invalid"):
            row[f"{cost}_{side}"] = tables.cost_mean(joined, cells, cost).est
        doses = [one.dose for of_value in cells.values() for one in of_value.values() if one.dose is not None]
        row[f"dose_{side}"] = float(np.mean(doses)) if doses else None
    difference = drawn["ours"]["gain"] - drawn["rival"]["gain"]
    row |= interval(difference[0], difference[1:], texts).columns("gain_difference")
    row |= _nlr_ratio(row, drawn, texts).columns("nlr_ratio")
    return row | _kl_ratio(joined, pair, n).columns("kl_ratio")


def _nlr_ratio(row: Mapping[str, Any], drawn: Mapping[str, Mapping[str, np.ndarray]], texts: int) -> Estimate:
    if row["nlr_ours"] is None or row["nlr_rival"] is None or not (row["nlr_rival_lo"] or 0) > 0:
        return null(texts)
    ours, rival = (formulas.ratio(drawn[side]["leakage"], drawn[side]["gain"]) for side in ("ours", "rival"))
    with np.errstate(invalid="ignore"):
        draws = formulas.ratio(ours, rival)
    return interval(draws[0], draws[1:], texts, recentre=True)


def _kl_ratio(joined: JoinedRuns, pair: Mapping[str, tables.Cells], n: int) -> Estimate:
    """Return the ratio of the mean divergences, with its interval over values (and seeds)."""
    means = []
    for side in ("ours", "rival"):
        numbers = [[one.costs["kl"] for one in of_value.values()] for of_value in pair[side].values()]
        if any(kl is None for of_value in numbers for kl in of_value):
            return null(n)
        filled = [[np.full(joined.n_boot + 1, float(kl or 0.0)) for kl in of_value] for of_value in numbers]
        means.append(resampled_mean(filled, seed=joined.seed, over_values=True))
    ratio = formulas.ratio(*means)
    if n < MIN_VALUES:
        return Estimate(float(ratio[0]), None, None, n)
    return interval(ratio[0], ratio[1:], n)
