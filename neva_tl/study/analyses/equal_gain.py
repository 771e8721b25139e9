"""Methods at equal gains on *test* prompts, read off their dose-response curves.

Doses are matched on validation prompts, so test gains differ, and both leakage and divergence grow with gain: a method
that fell short has an unfair advantage. Here each method's measured conditions (unedited, and one for each matched dose) are
the points of a curve of its mean gain over the values; leakage and costs are read off the curve at the requested gain.
Between points: leakage and loss linear in gain, KL quadratic (its square root linear: divergence from the unedited model
grows as the square of a small change). Intervals: bootstrap over test topics, the same draws for all methods and doses; the
neutral texts of the costs are fixed. (Ours.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.method_records import find_method
from neva_tl.evaluation.measures import formulas
from neva_tl.evaluation.measures.estimate import Estimate, interval, null
from neva_tl.evaluation.measures.headline import draw
from neva_tl.study.run.comparison import stored_responses
from neva_tl.study.run.run_folder import RunFolder

#: Costs that are read off a curve in addition to leakage, in nats per token of neutral text.
COSTS = ("kl", "loss")


@dataclass(frozen=True, eq=False)
class Curve:
    """A method's measured conditions, the unedited model first.

    Attributes:
        method: Name of the method.
        gain: Mean over the steered values at each point; row 0 is the data, the others bootstrap draws.
        leakage: Mean leakage, in the same shape.
        costs: Name -> mean over the steered values at each point.
        values: Steered values.
        n: Number of items.
    """

    method: str
    gain: Float[np.ndarray, "b t"]
    leakage: Float[np.ndarray, "b t"]
    costs: Mapping[str, Float[np.ndarray, " t"]]
    values: tuple[str, ...]
    n: int

    @property
    def top(self) -> float:
        """The largest measured gain."""
        return float(self.gain[0].max())

    def at(self, gain: float) -> dict[str, Float[np.ndarray, " b"]]:
        """Read leakage and costs off the curve at one gain.

        Args:
            gain: The gain.

        Returns:
            `leakage` and each cost, on the data and on draws; NaN on draws whose curve ends below the gain.
        """
        numbers = {"leakage": _read(self.gain, self.leakage, gain)}
        for name, cost in self.costs.items():
            points = np.broadcast_to(np.sqrt(np.maximum(cost, 0)) if name == "kl" else cost, self.gain.shape)
            cost_at = _read(self.gain, points, gain)
            numbers[name] = cost_at**2 if name == "kl" else cost_at
        return numbers


def _read(x: Float[np.ndarray, "b t"], y: Float[np.ndarray, "b t"], x_at: float) -> Float[np.ndarray, " b"]:
    """Interpolate each row's y linearly at one x; NaN outside its points."""
    order = np.argsort(x, axis=1, kind="stable")
    pairs = zip(np.take_along_axis(x, order, 1), np.take_along_axis(y, order, 1), strict=True)
    return np.array([np.interp(x_at, xs, ys, left=np.nan, right=np.nan) for xs, ys in pairs])


def curve_of(
    store: RunFolder,
    method: str,
    targets: Sequence[float],
    values: Sequence[str],
    losses: Mapping[float, Sequence[Mapping[str, float]]],
    *,
    seed: int = 0,
    n_boot: int = 2000,
    n_splits: int = 8,
) -> Curve:
    """Read a method's curve from the cells of a run folder.

    Args:
        store: The run folder.
        method: Name of the method.
        targets: Matched gains; the cells measured at their doses are the points, reached or not.
        values: Steered values, the same at every point.
        losses: Target -> per value the costs of the condition (`kl`, `loss`).
        seed: Seed of the draws; the same for curves that are compared, as are the next two.
        n_boot: Bootstrap draws.
        n_splits: Splits of the cross-fitted leakage.
    """
    gains, leaks, n = [], [], 0
    for target in targets:
        responses = stored_responses(store, method, target, list(values))
        assert responses is not None
        drawn = draw(responses, seed=seed, n_boot=n_boot, n_splits=n_splits)
        gains.append(formulas.gain(drawn.d, responses.target).mean(axis=-1))
        leaks.append(formulas.off_target_mean(drawn.positive, responses.target).mean(axis=-1))
        n = responses.n
    nothing = np.zeros(n_boot + 1)
    costs = {
        name: np.array([0.0, *(float(np.mean([one[name] for one in losses[target]])) for target in targets)])
        for name in COSTS
    }
    return Curve(method, np.stack([nothing, *gains], 1), np.stack([nothing, *leaks], 1), costs, tuple(values), n)


def contest(ours: Curve, rival: Curve, gain: float, *, level: float = 0.95) -> dict[str, Any]:
    """Compare two curves at one gain, draw by draw.

    Args:
        ours: Curve of a neuron method.
        rival: Curve of a vector method.
        gain: The gain.
        level: Level of the intervals.

    Returns:
        `nlr_ours`, `nlr_rival`, `nlr_ratio`, `nlr_difference`, and for each cost `_ours`, `_rival`, `_ratio`, all with `_lo` and
        `_hi`. Null where a curve ends below the gain; ratios also where the rival's leakage (cost) is within noise of 0.
    """
    a, b = ours.at(gain), rival.at(gain)
    row: dict[str, Any] = {"gain": gain, "ours": ours.method, "rival": rival.method, "n_values": len(ours.values)}
    row |= {"top_ours": ours.top, "top_rival": rival.top}

    def add(name: str, draws: Float[np.ndarray, " b"], *, recentre: bool, defined: bool = True) -> Estimate:
        estimate = interval(draws[0], draws[1:], ours.n, level, recentre=recentre) if defined else null(ours.n)
        row.update(estimate.columns(name))
        return estimate

    nlr_a, nlr_b = a["leakage"] / gain, b["leakage"] / gain
    add("nlr_ours", nlr_a, recentre=True)
    floor = add("nlr_rival", nlr_b, recentre=True).lo
    add("nlr_ratio", formulas.ratio(nlr_a, nlr_b), recentre=True, defined=floor is not None and floor > 0)
    add("nlr_difference", nlr_a - nlr_b, recentre=True)
    for name in COSTS:
        add(f"{name}_ours", a[name], recentre=False)
        floor = add(f"{name}_rival", b[name], recentre=False).lo
        add(f"{name}_ratio", formulas.ratio(a[name], b[name]), recentre=False, defined=floor is not None and floor > 0)
    return row


def curves_table(curves: Mapping[str, Sequence[Curve]], *, level: float = 0.95) -> pd.DataFrame:
    """Tabulate curves.

    Args:
        curves: Gate -> curves.
        level: Level of the intervals.

    Returns:
        One row per gate, method and point: `gate, method, point, gain, leakage` (with `_lo`, `_hi`), `kl`, `loss`.
    """
    rows: list[dict[str, Any]] = []
    for gate, of_gate in curves.items():
        for curve in of_gate:
            for point in range(curve.gain.shape[1]):
                row: dict[str, Any] = {"gate": gate, "method": curve.method, "point": point}
                row |= interval(curve.gain[0, point], curve.gain[1:, point], curve.n, level).columns("gain")
                leak = interval(curve.leakage[0, point], curve.leakage[1:, point], curve.n, level, recentre=True)
                rows.append(row | leak.columns("leakage") | {name: curve.costs[name][point] for name in COSTS})
    return pd.DataFrame(rows)


def equal_gain_contests(
    curves: Mapping[str, Sequence[Curve]], gains: Sequence[float], ours: Sequence[str]
) -> pd.DataFrame:
    """Compare our methods with every vector method under the same gate.

    Args:
        curves: Gate -> curves.
        gains: Gains at which curves are read.
        ours: Neuron methods.

    Returns:
        Rows of `contest`, one per pair and gain.
    """
    rows = []
    for gate, of_gate in curves.items():
        rivals = [curve for curve in of_gate if find_method(curve.method).family == "vectors"]
        for gain in gains:
            rows += [
                {"gate": gate} | contest(one, rival, gain) for one in of_gate if one.method in ours for rival in rivals
            ]
    return numeric(pd.DataFrame(rows))


def numeric(table: pd.DataFrame) -> pd.DataFrame:
    """Convert null to NaN, so that a column of nulls stays numeric.

    Args:
        table: A table of contests.
    """
    return table.astype({name: float for name in table if name not in ("gate", "ours", "rival", "n_values")})
