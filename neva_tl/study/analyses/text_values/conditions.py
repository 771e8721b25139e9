"""Measured conditions of several text-judged runs: one method that steers one value, with one seed.

The runs share model, judge, matched gain and test prompts, so that their bootstrap draws of the prompts are the same draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from neva_tl.core.errors import InputError
from neva_tl.core.formatting import finite_number
from neva_tl.core.method_records import find_method
from neva_tl.evaluation.measures import formulas
from neva_tl.evaluation.measures.headline import SPLITS, draw
from neva_tl.evaluation.measures.wrong_way import wrong_way_draws
from neva_tl.study.report.control import CONTROL
from neva_tl.study.run.comparison import responses_of
from neva_tl.study.run.control import control_cell
from neva_tl.study.run.preflight import read_manifest
from neva_tl.study.run.run_folder import RunFolder


@dataclass(frozen=True, eq=False)
class Condition:
    """One method that steers one value in one run.

    Attributes:
        method: Name of the method.
        value: Steered value.
        seed: Seed of the run.
        dose: Dose; None for a method without one.
        status: `reached`, `unreached`, `own gain`, or `dose of METHOD` for a placebo.
        gain: Mean change of the judge's score of the value; row 0 is the data, the others bootstrap draws of the prompts.
        leakage: Cross-fitted mean rise of the other values, in the same shape.
        wrong_way: Share of the prompts whose score falls, in the same shape.
        costs: `invalid`, `invalid_base` (shares of texts), `kl` (nats per token of neutral text), `perplexity`,
            `perplexity_base` (of its own texts under the unedited model) and their `perplexity_ratio`; None where not measured.
        n: Number of texts.
        neurons: Number of edited neurons; None for a method that edits none.
        measured: Values that the judge scored.
    """

    method: str
    value: str
    seed: int
    dose: float | None
    status: str
    gain: Float[np.ndarray, " b"]
    leakage: Float[np.ndarray, " b"]
    wrong_way: Float[np.ndarray, " b"]
    costs: Mapping[str, float | None]
    n: int
    neurons: int | None
    measured: tuple[str, ...]

    @property
    def family(self) -> str:
        """Target of the edit: `neurons`, `vectors`, `prompt` or `placebo`."""
        return find_method(self.method).family


@dataclass(frozen=True, eq=False)
class JoinedRuns:
    """The conditions of several runs.

    Attributes:
        conditions: Every condition at the matched gain.
        stores: The run folders.
        model: Name of the model.
        judge: Name of the judge.
        unit: Unit of its scores.
        target: Matched gain.
        seed: Seed of the bootstraps.
        n_boot: Bootstrap draws.
    """

    conditions: tuple[Condition, ...]
    stores: tuple[RunFolder, ...]
    model: str
    judge: str
    unit: str
    target: float
    seed: int
    n_boot: int

    @property
    def values(self) -> tuple[str, ...]:
        """Steered values, in the order of the runs."""
        return tuple(dict.fromkeys(one.value for one in self.conditions))

    @property
    def methods(self) -> tuple[str, ...]:
        """Measured methods, in the order of the runs."""
        return tuple(dict.fromkeys(one.method for one in self.conditions))

    @property
    def note(self) -> str:
        """Values whose leakage is read on other values than that of the first; "" where all are read on the same ones."""
        first = set(self.conditions[0].measured)
        others = {one.value for one in self.conditions if set(one.measured) != first}
        names = ", ".join(value for value in self.values if value in others)
        return f"leakage of {names} is read on other values than that of {self.conditions[0].value}" if names else ""

    def of(self, method: str, values: Sequence[str] | None = None) -> dict[str, dict[int, Condition]]:
        """Return the conditions of a method: value -> seed -> condition.

        Args:
            method: Name of the method.
            values: Values to return; None for all that the method steers.
        """
        cells: dict[str, dict[int, Condition]] = {}
        for one in self.conditions:
            if one.method == method and (values is None or one.value in values):
                cells.setdefault(one.value, {})[one.seed] = one
        return cells


def join_runs(folders: Sequence[str | Path], *, seed: int = 0, n_boot: int = 2000) -> JoinedRuns:
    """Read the conditions of text-judged runs at their matched gain.

    Args:
        folders: Run folders, which differ in values or in seed.
        seed: Seed of the bootstraps.
        n_boot: Bootstrap draws.

    Raises:
        InputError: No folder was named, a run is not finished, its judge read no texts, the runs differ in model, judge,
            matched gain or test prompts, or two of them steer one value with one seed.

    Example:
        >>> joined = join_runs(["runs/tradition", "runs/power"])  # doctest: +SKIP
        >>> joined.values  # doctest: +SKIP
        ('tradition', 'power')
    """
    if not folders:
        raise InputError("no run was named: give the folders of text-judged runs")
    stores = tuple(RunFolder(Path(folder)) for folder in folders)
    identities = [_identity(store) for store in stores]
    first = identities[0]
    for store, identity in zip(stores[1:], identities[1:], strict=True):
        for what, content in identity.items():
            if content != first[what]:
                figures = "" if what == "test prompts" else f" ({content} and {first[what]})"
                raise InputError(
                    f"{store.root} and {stores[0].root} differ in their {what}{figures}: join like with like"
                )
    conditions: list[Condition] = []
    folder_of: dict[tuple[str, str, int], Path] = {}
    for store in stores:
        for one in _conditions(store, seed=seed, n_boot=n_boot):
            key = (one.method, one.value, one.seed)
            if key in folder_of:
                raise InputError(
                    f"{store.root} and {folder_of[key]} both steer {one.value!r} by {one.method} with seed {one.seed}: name one"
                )
            folder_of[key] = store.root
            conditions.append(one)
    results = stores[0].read_json("results.json")
    return JoinedRuns(
        tuple(conditions),
        stores,
        str(results["model"]["name"]),
        str(results["judge"]),
        str(results["unit"]),
        float(results["target_gain"]),
        seed,
        n_boot,
    )


def _identity(store: RunFolder) -> dict[str, Any]:
    """Return the facts that joined runs share."""
    manifest = read_manifest(store.root, measured=True)
    if not store.has("results.json"):
        raise InputError(f"{store.root} is not finished: run the same neva-tl run again to resume it")
    results = store.read_json("results.json")
    if not store.has("cells/base.texts.parquet"):
        raise InputError(
            f"the judge of {store.root} ({results['judge']}) read no texts: run the study with a judge of texts"
        )
    texts = store.read_table("cells/base.texts")
    return {
        "model": (results["model"]["name"], manifest["model"].get("weights_hash", "")[:12]),
        "judge": results["judge"],
        "unit": results["unit"],
        "matched gain": results["target_gain"],
        "test prompts": tuple(zip(texts["prompt"], texts["sample"], strict=True)),
    }


def _conditions(store: RunFolder, *, seed: int, n_boot: int) -> list[Condition]:
    """Return the conditions of one run at its matched gain."""
    rows = store.read_table("tables/values")
    results, base = store.read_json("results.json"), store.read_json("cells/base.json")
    run_seed = int(store.read_json("manifest.json")["seed"])
    of_target = rows[rows["target_gain"].isna() | (rows["target_gain"] == results["target_gain"])]
    cells_of: dict[str, dict[str, str]] = {}
    for method, group in of_target.groupby("method", sort=False):
        target = group["target_gain"].iloc[0]
        dose = None if target != target else target
        cells_of[str(method)] = {str(value): f"cells/measure/{method}/{value}@{dose}" for value in group["steered"]}
    if CONTROL not in cells_of:  # a study without the method measures it as its positive control
        controls = {value: control_cell(value) for value in results["values"]}
        measured = {value: cell for value, cell in controls.items() if store.has(f"{cell}.json")}
        cells_of |= {CONTROL: measured} if measured else {}
    conditions = []
    for method, cells in cells_of.items():
        edits_neurons = find_method(method).family in ("neurons", "placebo")
        conditions += read_cells(
            store,
            method,
            cells,
            run_seed,
            base,
            {v: results["neurons"].get(v, {}).get("k") if edits_neurons else None for v in cells},
            seed=seed,
            n_boot=n_boot,
        )
    return conditions


def read_cells(
    store: RunFolder,
    method: str,
    cells: Mapping[str, str],
    run_seed: int,
    base: Mapping[str, Any],
    neurons: Mapping[str, int | None],
    *,
    seed: int,
    n_boot: int,
) -> list[Condition]:
    """Read conditions of a method from their cells.

    Args:
        store: The run folder.
        method: Name of the method.
        cells: Steered value -> name of its cell.
        run_seed: Seed of the run.
        base: Record of the unedited model.
        neurons: Steered value -> number of edited neurons.
        seed: Seed of the bootstraps.
        n_boot: Bootstrap draws.
    """
    responses = responses_of(store, method, cells)
    assert responses is not None
    drawn = draw(responses, seed=seed, n_boot=n_boot, n_splits=SPLITS)
    gains = formulas.gain(drawn.d, responses.target)
    leaks = formulas.off_target_mean(drawn.positive, responses.target)
    falls = wrong_way_draws(responses, seed=seed, n_boot=n_boot)
    conditions = []
    for i, value in enumerate(responses.steered):
        record = store.read_json(f"{cells[value]}.json")
        conditions.append(
            Condition(
                method,
                value,
                run_seed,
                record.get("dose"),
                str(record.get("status", "")),
                gains[:, i],
                leaks[:, i],
                falls[:, i],
                _costs(record, base),
                len(responses.base[responses.target[i]]),
                neurons.get(value),
                responses.values,
            )
        )
    return conditions


def _costs(record: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, float | None]:
    edited, unedited = ((one.get("fluency") or {}).get("perplexity") for one in (record, base))
    perplexity, perplexity_base = finite_number(edited), finite_number(unedited)
    ratio = None if perplexity is None or not perplexity_base else perplexity / perplexity_base
    return {
        "invalid": finite_number(record.get("invalid")),
        "invalid_base": finite_number(base.get("invalid")),
        "kl": finite_number((record.get("capability") or {}).get("kl")),
        "perplexity": perplexity,
        "perplexity_base": perplexity_base,
        "perplexity_ratio": ratio,
    }
