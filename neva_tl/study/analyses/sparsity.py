"""Sparsity: the smallest neuron sets with most of the full set's gain.

For each value the run's own set is cut to its first k neurons and edited at the run's own dose. The smallest k is read on
validation prompts; the gain reported at that k is that of test prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.messages import progress_bar
from neva_tl.evaluation.measures import formulas
from neva_tl.evaluation.measures.estimate import Estimate, interval, null
from neva_tl.evaluation.measures.headline import draw
from neva_tl.models import Model
from neva_tl.study.analyses.reopened_run import Run
from neva_tl.study.analyses.sensitivity import Lab, SensitivityConfig
from neva_tl.study.analyses.variants import Variant
from neva_tl.study.run.comparison import responses_of

#: Share of the full set's gain that a smaller set must reach, and the sizes of the sets as shares of the full set.
KEEP = 0.9
SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
#: The row over all values.
ALL = "all"
COLUMNS = (
    "method", "value", "dose", "full", "k", "k_lo", "k_hi", "share", "share_lo", "share_hi",
    "gain_full", "gain_full_lo", "gain_full_hi", "gain", "gain_lo", "gain_hi", "kept", "kept_lo", "kept_hi",
)  # fmt: skip


def smallest_k(gains: Mapping[int, float], keep: float = KEEP) -> int | None:
    """Return the smallest number of neurons with most of the full set's gain.

    All larger sets must reach the same share, because one small set's gain may be high by chance (ours).

    Args:
        gains: Number of neurons -> gain; the largest number is the full set.
        keep: Share of the full set's gain.

    Returns:
        The number; None where the gain of the full set is not above 0.
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
    """Return the sizes of the subsets of a set.

    Args:
        n: Number of neurons in the set.
    """
    return sorted({max(1, round(share * n)) for share in SHARES})


def over_values(x: Sequence[float], seed: int, n_boot: int, level: float = 0.95) -> Estimate:
    """Return the mean over values with a percentile interval.

    Args:
        x: One number per value.
        seed: Seed of the resampling of values.
        n_boot: Bootstrap draws.
        level: Level of the interval.

    Returns:
        The estimate; without an interval where there are fewer than two values.
    """
    array = np.asarray(x, dtype=np.float64)
    if not len(array):
        return null()
    draws = np.random.default_rng(seed).choice(array, size=(n_boot, len(array))).mean(axis=1)
    if len(array) < 2:
        draws = np.full(n_boot, np.nan)
    return interval(float(array.mean()), draws, len(array), level)


@dataclass(frozen=True, eq=False)
class _Curve:
    """A value's gains on validation prompts by number of neurons, at the run's dose."""

    value: str
    dose: float
    gains: Mapping[int, float]

    @property
    def k(self) -> int | None:
        return smallest_k(self.gains)


def sparsity(
    run: Run, model: Model, config: SensitivityConfig | None = None, *, progress: bool = False
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Find the smallest sets with 90 % of the full set's gain at the same dose.

    Args:
        run: The finished run.
        model: Its loaded model.
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
    for method in progress_bar(lab.config.methods, desc="sparsity", progress=progress):
        curves = [_curve(lab, method, value) for value in lab.config.values]
        _measure_smallest(lab, method, curves)
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
    """Return the gains of a value's subsets at the run's dose, cached in the folder."""
    store, target = lab.cells.store, lab.config.target
    name = f"cells/sparsity/{method}/{value}@{target}.curve.json"
    if not store.has(name):
        dose = store.read_json(f"{_own(lab, method, value)}.json")["dose"] or 0.0
        edits = []
        set_sizes = sizes(len(lab.evidence.neurons[value]))
        for k in set_sizes:
            edit = lab.edit(method, Variant("k", str(k), k=k), value)
            assert edit is not None
            edits.append((value, edit.with_dose(dose)))
        gains = [point.gain for point in lab.cells.dose_points(edits)]
        store.write_json(name, {"dose": dose, "k": set_sizes, "gain": gains})
    record = store.read_json(name)
    return _Curve(value, record["dose"], dict(zip(record["k"], record["gain"], strict=True)))


def _cell(lab: Lab, method: str, curve: _Curve) -> str:
    """Return the test cell of the smallest set; the run's own for the full set."""
    if curve.k == max(curve.gains):
        return _own(lab, method, curve.value)
    return f"cells/sparsity/{method}/{curve.value}@{lab.config.target}"


def _measure_smallest(lab: Lab, method: str, curves: Sequence[_Curve]) -> None:
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
    """Return the rows of one method, and the last one as plain data.

    The last row is the mean over all values with a gain above 0.
    """
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
        column = index_of[row["value"]]
        row |= {"share": row["k"] / total} | _numbers(full[:, column], cut[:, column], n)
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
    """Return the gains of some cells, and the number of items.

    Row 0 is the data, the others bootstrap draws, which are the same for all cells.
    """
    responses = responses_of(lab.cells.store, "sparsity", cells)
    assert responses is not None
    drawn = draw(responses, seed=lab.run.config.seed, n_boot=lab.cells.profile.n_boot, n_splits=1)
    return formulas.gain(drawn.d, responses.target), responses.n


def _numbers(full: Float[np.ndarray, " b"], cut: Float[np.ndarray, " b"], n: int) -> dict[str, float | None]:
    numbers = {"gain_full": full, "gain": cut, "kept": formulas.ratio(cut, full)}
    out: dict[str, float | None] = {}
    for name, x in numbers.items():
        out |= interval(x[0], x[1:], n).columns(name)
    return out
