"""Discoveries of selection under the null hypothesis: poles shuffled within pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kstest

from neva_tl.activations import ActivationStats
from neva_tl.core.brief import brief
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.selection import Request, effect_table
from neva_tl.selection.effect_size import add_familywise
from neva_tl.selection.planted.measure import share


@dataclass(frozen=True, eq=False)
class NullResult:
    """Shuffled runs.

    Attributes:
        runs: One row per shuffle and delta: `bh` and `max_t` (number of discoveries at alpha).
        p: delta -> p-values `[shuffles, neurons]`.
        alpha: Level of both procedures.

    Example:
        >>> null = nv.planting.null_table(stats, "power", shuffles=2, flips=100)
        >>> null.table().columns.tolist()
        ['delta', 'measure', 'est', 'lo', 'hi', 'n']
    """

    runs: pd.DataFrame
    p: dict[float, np.ndarray]
    alpha: float

    __repr__ = brief

    def table(self) -> pd.DataFrame:
        """Share of runs with any discovery, and the uniformity of p, by delta.

        For each neuron the shuffles' p-values are independent draws: Kolmogorov and Smirnov's test compares them with the
        uniform distribution. `ks_rejected` is the share of neurons rejected at alpha, close to alpha if p is uniform; neurons
        are correlated, so it has no simple interval. `ks_rejected_small` is one-sided: p is too small too often. `ks_distance`
        is the largest distance of the pooled p from the diagonal, `p_below_alpha` the share of them at or below alpha.

        Returns:
            Columns delta, measure, est, lo, hi, n.
        """
        rows: list[tuple[Any, ...]] = []
        for delta, group in self.runs.groupby("delta", sort=False):
            for name in ("bh", "max_t"):
                rows.append((delta, f"any_{name}", *share(int((group[name] > 0).sum()), len(group))))
            p = self.p[float(delta)]  # type: ignore[arg-type]
            for name, side in (("ks_rejected", "two-sided"), ("ks_rejected_small", "greater")):
                rejected = float(
                    np.mean([kstest(column, "uniform", alternative=side).pvalue <= self.alpha for column in p.T])
                )
                rows.append((delta, name, rejected, np.nan, np.nan, p.shape[1]))
            distance = float(kstest(p.ravel(), "uniform").statistic)
            rows.append((delta, "ks_distance", distance, np.nan, np.nan, p.size))
            rows.append((delta, "p_below_alpha", float((p <= self.alpha).mean()), np.nan, np.nan, p.size))
        return pd.DataFrame(rows, columns=["delta", "measure", "est", "lo", "hi", "n"])

    def _repr_html_(self) -> str:
        facts = {"shuffles": int(self.runs["shuffle"].nunique()), "alpha": self.alpha}
        return card("Discoveries on shuffled poles", facts, self.table(), rows=20)

    def show(self) -> Any:
        """Shares of shuffled runs with any discovery as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        table = self.table()
        any_found = table[table["measure"].str.startswith("any_")]
        names = {"any_bh": "BH screen", "any_max_t": "step-down max-T"}
        label = [f"{names[m]}, delta {d:g}" for m, d in zip(any_found["measure"], any_found["delta"], strict=True)]
        return interval_plot(any_found.assign(label=label), axis="share of runs with any discovery", guide=self.alpha)


def null_table(
    stats: ActivationStats,
    value: str,
    *,
    shuffles: int = 200,
    deltas: tuple[float, ...] = (0.0, 0.2),
    alpha: float = 0.05,
    flips: int = 1000,
    seed: int = 0,
    progress: Callable[[Iterator[int]], Iterator[int]] = iter,
) -> NullResult:
    """Shuffle poles within pairs, many times, and run the screen's own code on each.

    Every pair's poles are swapped with probability 1/2, independently, so that the null hypothesis holds for every neuron,
    planted or not, and pairs stay pairs.

    Args:
        stats: Statistics with samples of a paired contrast.
        value: The value whose texts are used; the tests read no other value.
        shuffles: Number of runs.
        deltas: Smallest effects of interest; p is uniform at 0, and conservative above.
        alpha: Level of both procedures.
        flips: Number of sign flips of the step-down max-T.
        seed: Seed of the shuffles.
        progress: Wraps the loop.

    Raises:
        InputError: The statistics hold no samples, texts have no pair, or `shuffles` is below 1.

    Example:
        >>> null = nv.planting.null_table(stats, "power", shuffles=2, flips=100)
        >>> len(null.runs)
        4
    """
    if stats.samples is None or shuffles < 1:
        raise InputError("the null needs statistics with samples, and at least one shuffle")
    table = stats.samples.table.reset_index(drop=True)
    rows = np.flatnonzero((table["value"] == value).to_numpy())
    table, h = table.iloc[rows].reset_index(drop=True), np.asarray(stats.samples.h[rows], dtype=np.float32)
    if table["pair_id"].isna().any():
        raise InputError(f"{value} has texts without a pair: poles are shuffled within pairs here")
    pair, names = pd.factorize(table["pair_id"])
    plus = (table["pole"] == "+").to_numpy()
    rng = np.random.default_rng(seed)
    runs: list[dict[str, Any]] = []
    p: dict[float, list[np.ndarray]] = {float(delta): [] for delta in deltas}
    for run in progress(iter(range(shuffles))):
        swapped = rng.random(len(names))[pair] < 0.5
        mixed = table.assign(pole=np.where(plus != swapped, "+", "-"))
        shuffled = ActivationStats.from_samples(h, mixed, theory=stats.theory)
        for delta in p:
            request = Request(value, delta=delta, seed=seed + run)
            tests = add_familywise(shuffled, request, effect_table(shuffled, value, delta=delta), flips)
            p[delta].append(tests["p"].to_numpy())
            runs.append(
                {
                    "shuffle": run,
                    "delta": delta,
                    "bh": int((tests["q"] <= alpha).sum()),
                    "max_t": int((tests["p_fwe"] <= alpha).sum()),
                }
            )
    return NullResult(pd.DataFrame(runs), {delta: np.stack(of) for delta, of in p.items()}, alpha)
