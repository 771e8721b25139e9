"""Sparsity: how few of a run's neurons keep most of the gain that all of them reach, at one and the same dose.

For each value the run's own set is cut to its first k neurons and edited at the run's own dose. The smallest k is read on
validation prompts; the gain reported at that k is of test prompts.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from tqdm import tqdm

from neva_tl.evaluation.measures import formulas as measures
from neva_tl.evaluation.measures.estimate import Estimate, interval, null
from neva_tl.evaluation.measures.headline import draw
from neva_tl.study.analyses.reopened_run import ReopenedRun
from neva_tl.study.analyses.sensitivity import Lab, SensitivityConfig
from neva_tl.study.analyses.variants import Variant
from neva_tl.study.run.comparison import responses_of

#: Share of the full set's gain that has to be kept, and the shares of the full set that are tried.
KEEP = 0.9
SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
#: The row over all values.
ALL = "all"
COLUMNS = (
    "method", "value", "dose", "full", "k", "k_lo", "k_hi", "share", "share_lo", "share_hi",
    "gain_full", "gain_full_lo", "gain_full_hi", "gain", "gain_lo", "gain_hi", "kept", "kept_lo", "kept_hi",
)  # fmt: skip


def smallest_k(gains: Mapping[int, float], keep: float = KEEP) -> int | None:
    """The smallest number of neurons from which on every number tried keeps this share of the full set's gain.

    "From which on", because one small set's gain may be high by chance (ours).

    Args:
        gains: Number of neurons -> gain; the largest is the full set.
        keep: The share.

    Returns:
        None where the full set gains nothing.
    """
    full = gains[max(gains)]
    if not full > 0:
        return None
    smallest = None
    for k in sorted(gains, reverse=True):
        if gains[k] < keep * full - 1e-9:
            break
        smallest = k
    return smallest


def sizes(n: int) -> list[int]:
    """The numbers of neurons that are tried of a set of n."""
    return sorted({max(1, round(share * n)) for share in SHARES})


def over_values(x: Sequence[float], seed: int, n_boot: int, level: float = 0.95) -> Estimate:
    """Mean over values with a percentile interval from resampling the values; none where there are fewer than two."""
    array = np.asarray(x, dtype=np.float64)
    if not len(array):
        return null()
    draws = np.random.default_rng(seed).choice(array, size=(n_boot, len(array))).mean(axis=1)
    if len(array) < 2:
        draws = np.full(n_boot, np.nan)
    return interval(float(array.mean()), draws, len(array), level)


@dataclass(frozen=True, eq=False)
class _Curve:
    """A value's gains on validation prompts at the run's own dose, by number of neurons."""

    value: str
    dose: float
    gains: Mapping[int, float]

    @property
    def k(self) -> int | None:
        return smallest_k(self.gains)


def sparsity(
    run: ReopenedRun, model: Any, config: SensitivityConfig | None = None, *, progress: bool = False
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """The smallest sets that keep 90 % of the full set's gain at the same dose, per value and method.

    Args:
        run, model: The finished run and its loaded model.
        config: Values, methods and target.
        progress: Show a bar on stderr.

    Returns:
        Table `sparsity` (method, value or `all`, dose, full, k, share of the model's neurons, gain_full and gain on test
        prompts, kept = gain / gain_full with interval; of `all`: means over the values that gain, k and share with an interval
        over values, kept over prompts), table `sparsity_curve` (method, value, k, share, gain: validation prompts), and the
        rows of `all` as plain data by method.

    Raises:
        InputError: The run lacks a requested method or value, or a file.
    """
    lab = Lab.open(run, model, config)
    rows, points, numbers = [], [], {}
    for method in tqdm(lab.config.methods, desc="sparsity", file=sys.stderr, disable=not progress):
        curves = [_curve(lab, method, value) for value in lab.config.values]
        _measure_chosen(lab, method, curves)
        rows_of_method, numbers[method] = _rows(lab, method, curves)
        rows += rows_of_method
        total = _total(lab)
        points += [
            {"method": method, "value": c.value, "k": k, "share": k / total, "gain": gain, "chosen": k == c.k}
            for c in curves
            for k, gain in c.gains.items()
        ]
    return {"sparsity": pd.DataFrame(rows, columns=list(COLUMNS)), "sparsity_curve": pd.DataFrame(points)}, numbers


def _total(lab: Lab) -> int:
    return lab.evidence.stats.n_layers * lab.evidence.stats.d_mlp


def _own(lab: Lab, method: str, value: str) -> str:
    return f"cells/measure/{method}/{value}@{lab.config.target}"


def _curve(lab: Lab, method: str, value: str) -> _Curve:
    """Gains of the heads of a value's set at the run's dose, kept in the run folder."""
    store, target = lab.cells.store, lab.config.target
    name = f"cells/sparsity/{method}/{value}@{target}.curve.json"
    if not store.has(name):
        dose = store.read_json(f"{_own(lab, method, value)}.json")["dose"] or 0.0
        edits = []
        tried = sizes(len(lab.evidence.neurons[value]))
        for k in tried:
            edit = lab.edit(method, Variant("k", str(k), k=k), value)
            assert edit is not None
            edits.append((value, edit.with_dose(dose)))
        gains = [point.gain for point in lab.cells.dose_points(edits)]
        store.write_json(name, {"dose": dose, "k": tried, "gain": gains})
    record = store.read_json(name)
    return _Curve(value, record["dose"], dict(zip(record["k"], record["gain"], strict=True)))


def _cell(lab: Lab, method: str, curve: _Curve) -> str:
    """The test cell of the chosen set: the run's own where all neurons are needed."""
    if curve.k == max(curve.gains):
        return _own(lab, method, curve.value)
    return f"cells/sparsity/{method}/{curve.value}@{lab.config.target}"


def _measure_chosen(lab: Lab, method: str, curves: Sequence[_Curve]) -> None:
    todo = []
    for curve in curves:
        name = _cell(lab, method, curve)
        if curve.k is None or lab.cells.store.has(f"{name}.json"):
            continue
        edit = lab.edit(method, Variant("k", str(curve.k), k=curve.k), curve.value)
        assert edit is not None
        about = {"dose": curve.dose, "status": "dose of the full set", "n_neurons": curve.k}
        todo.append((name, (edit.with_dose(curve.dose),), about))
    if todo:
        lab.cells.measure(todo)


def _rows(lab: Lab, method: str, curves: Sequence[_Curve]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of one method, the last over all values that gain; and that one as plain data."""
    total, seed, n_boot = _total(lab), lab.run.config.seed, lab.cells.profile.n_boot
    complete = [curve for curve in curves if curve.k is not None]
    rows: list[dict[str, Any]] = [
        {"method": method, "value": c.value, "dose": c.dose, "full": max(c.gains), "k": c.k} for c in curves
    ]
    if not complete:
        return rows, {"values": f"0/{len(curves)}"}
    full, n = _gains(lab, {c.value: _own(lab, method, c.value) for c in complete})
    cut, _ = _gains(lab, {c.value: _cell(lab, method, c) for c in complete})
    index_of = {c.value: i for i, c in enumerate(complete)}
    for row in rows:
        if row["k"] is None:
            continue
        at = index_of[row["value"]]
        row |= {"share": row["k"] / total} | _numbers(full[:, at], cut[:, at], n)
    share = over_values([c.k / total for c in complete if c.k is not None], seed, n_boot)
    k = over_values([float(c.k) for c in complete if c.k is not None], seed, n_boot)
    mean_numbers = _numbers(full.mean(axis=1), cut.mean(axis=1), n)
    mean = {"method": method, "value": ALL, "full": float(np.mean([max(c.gains) for c in complete]))}
    mean |= k.columns("k") | share.columns("share")
    about = {"values": f"{len(complete)}/{len(curves)}", "keep": KEEP, "k": k.to_json(), "share": share.to_json()}
    for name in ("gain_full", "gain", "kept"):
        about[name] = {
            "est": mean_numbers[name],
            "lo": mean_numbers[f"{name}_lo"],
            "hi": mean_numbers[f"{name}_hi"],
            "n": n,
        }
    return [*rows, mean | mean_numbers], about


def _gains(lab: Lab, cells: Mapping[str, str]) -> tuple[Float[np.ndarray, "b i"], int]:
    """Gains of some cells on the data (row 0) and on bootstrap draws (the same draws for all cells), and the items."""
    responses = responses_of(lab.cells.store, "sparsity", cells)
    assert responses is not None
    drawn = draw(responses, seed=lab.run.config.seed, n_boot=lab.cells.profile.n_boot, n_splits=1)
    return measures.gain(drawn.d, responses.target), responses.n


def _numbers(full: Float[np.ndarray, " b"], cut: Float[np.ndarray, " b"], n: int) -> dict[str, float | None]:
    numbers = {"gain_full": full, "gain": cut, "kept": measures.ratio(cut, full)}
    out: dict[str, float | None] = {}
    for name, x in numbers.items():
        out |= interval(x[0], x[1:], n).columns(name)
    return out
