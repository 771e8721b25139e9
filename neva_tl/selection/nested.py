"""Effects of selected neurons without the optimism of selection: a bootstrap nested over the selection itself.

The k best of many neurons look better on the data that chose them than they are. Each draw resamples whole clusters, selects on
the resample, and measures those neurons on the clusters left out (about 37 % of them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.activations import ActivationStats
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.selection.contrast import effects
from neva_tl.selection.resample import clusters_of, part_of, rows_of
from neva_tl.selection.stability import resample_request, reselect


@dataclass(frozen=True, eq=False)
class NestedEffect:
    """The mean effect of a selected set, as selection shows it and as it is on other prompts.

    Effects are signed by the direction seen where the neurons were selected: one that turns round counts as negative.

    Attributes:
        value, method, k: what was selected, how, and how many.
        apparent: mean |g| of the set selected on all prompts, on the same prompts.
        corrected: `apparent - optimism` (Efron and Gong 1983).
        optimism: mean over draws of the set's g on its resample minus its g on the clusters left out.
        lo, hi: percentile interval of the g on left-out clusters. It covers prompts and selection, and is wide: a third of the
            clusters measures what two thirds of them selected.
        df: one row per draw: `resample`, `left_out` (mean g), `neurons`.
    """

    value: str
    method: str
    k: int
    apparent: float
    corrected: float
    optimism: float
    lo: float
    hi: float
    df: pd.DataFrame

    def _repr_html_(self) -> str:
        facts = {"selector": self.method, "k": self.k, "apparent g": self.apparent, "corrected g": self.corrected}
        facts |= {"interval": f"{self.lo:.2f} to {self.hi:.2f}", "draws": len(self.df)}
        return card(f"Effect of the neurons selected for {self.value}", facts, self.df)

    def show(self) -> Any:
        """Apparent and corrected g as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        rows = pd.DataFrame(
            {
                "label": ["on the prompts that selected", "corrected"],
                "est": [self.apparent, self.corrected],
                "lo": [np.nan, self.lo],
                "hi": [np.nan, self.hi],
            }
        )
        return interval_plot(rows, title=f"{self.value}, {self.k} neurons", axis="mean g", guide=0.0)


def nested_bootstrap(
    stats: ActivationStats,
    value: str,
    *,
    k: int,
    method: str = "effect_size",
    draws: int = 200,
    model: Any = None,
    lam: float = 1.0,
    layers: tuple[int, ...] | None = None,
    seed: int = 0,
    level: float = 0.95,
    options: Mapping[str, Any] | None = None,
) -> NestedEffect:
    """Select on a resample of the clusters, measure on the clusters left out, many times.

    Args:
        stats: statistics with samples.
        value, k, method, model, lam, layers, seed, options: as in `stability`; the screen is off.
        draws: resamples.
        level: coverage of the interval.

    Raises:
        InputError: as `stability`; fewer than ten draws; a level outside (0, 1); or no draw selects anything.
    """
    if draws < 10 or not 0 < level < 1:
        raise InputError(f"a nested bootstrap needs at least 10 draws and a level in (0, 1): got {draws}, {level}")
    request = resample_request(stats, value, k=k, method=method, model=model, lam=lam, layers=layers, seed=seed,
                               options=options)  # fmt: skip
    clusters = clusters_of(stats, least=6)
    chosen = reselect(stats, request, method)
    if not len(chosen):
        raise InputError(f"{method} selects nothing for {value}: there is no effect to correct")
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(draws):
        picks = {name: rng.integers(0, len(found), len(found)) for name, found in clusters.items()}
        rest = {name: np.setdiff1d(np.arange(len(clusters[name])), pick) for name, pick in picks.items()}
        seen, left = (
            part_of(stats, np.concatenate([rows_of(clusters[name], which[name]) for name in clusters]))
            for which in (picks, rest)
        )
        df = reselect(seen, request, method)
        if not len(df) or left.values != stats.values or _observations(left, value) < 2:
            continue
        at = (df["layer"].to_numpy(), df["neuron"].to_numpy())
        before, after = effects(seen, value)[0].g[at], effects(left, value)[0].g[at]
        sign = np.sign(before)
        rows.append({"resample": (sign * before).mean(), "left_out": (sign * after).mean(), "neurons": len(df)})
    if len(rows) < draws / 2:
        raise InputError(
            f"{value}: {draws - len(rows)} of {draws} resamples leave nothing to measure: give more clusters"
        )
    frame = pd.DataFrame(rows)
    apparent = float(np.abs(effects(stats, value)[0].g[chosen["layer"], chosen["neuron"]]).mean())
    optimism = float((frame["resample"] - frame["left_out"]).mean())
    lo, hi = np.quantile(frame["left_out"], [(1 - level) / 2, (1 + level) / 2])
    return NestedEffect(value, method, k, apparent, apparent - optimism, optimism, float(lo), float(hi), frame)


def _observations(stats: ActivationStats, value: str) -> int:
    """Pairs, or texts of the smaller pole where there are none."""
    v = stats.index(value)
    return int(stats.diff_n[v].sum()) or int(stats.n[v].sum(axis=-1).min())
