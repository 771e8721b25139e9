"""Effects of selected neurons without the optimism of selection.

A bootstrap repeats the selection.

The k best of many neurons look better than they are on the data that selected them. Each draw resamples whole clusters,
selects on the resample, and measures those neurons on the remaining clusters (about 37 % of them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.activations import ActivationStats
from neva_tl.core.arguments import check_arguments
from neva_tl.core.brief import brief
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.statistics import containing
from neva_tl.core.theories import ValueName
from neva_tl.models import Model
from neva_tl.selection.base import Request
from neva_tl.selection.contrast import effects
from neva_tl.selection.resample import clusters_of, rows_of, subset_stats
from neva_tl.selection.stability import resample_request, reselect


@dataclass(frozen=True, eq=False)
class NestedEffect:
    """The mean effect of a selected set, on its own prompts and on others.

    Effects are signed by their direction on the prompts that selected the neurons: an effect that changes direction counts as
    negative.

    Attributes:
        value: The value.
        method: The selector.
        k: Number of neurons.
        apparent: Mean |g| of the set selected on all prompts, on the same prompts.
        corrected: `apparent - optimism` (Efron and Gong 1983).
        optimism: Mean over draws of the set's g on its resample minus its g on the left-out clusters.
        lo: Lower end of the percentile interval of the g on left-out clusters, stretched to `corrected` where it excludes
            it. The interval covers prompts and selection. It is wide, because a third of the clusters measures the neurons
            that two thirds selected.
        hi: Upper end of that interval.
        df: One row per draw: `resample`, `left_out` (mean g), `neurons`.

    Example:
        >>> effect = nv.selection.nested_bootstrap(stats, "power", k=10, draws=10)
        >>> effect.apparent > effect.corrected  # selection overstates the effect on its own prompts
        True
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

    __repr__ = brief

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


@check_arguments
def nested_bootstrap(
    stats: ActivationStats,
    value: ValueName,
    *,
    k: int,
    method: str = "effect_size",
    draws: int = 200,
    model: Model | None = None,
    lam: float = 1.0,
    layers: tuple[int, ...] | None = None,
    seed: int = 0,
    level: float = 0.95,
    options: Mapping[str, Any] | None = None,
) -> NestedEffect:
    """Select on a resample of the clusters, measure on the others, many times.

    The screen is off, as in `stability`.

    Args:
        stats: Statistics with samples.
        value: One of the collected values.
        k: Number of neurons selected on each resample.
        method: A selector, except placebos.
        draws: Number of resamples.
        model: The model, where the method reads weights.
        lam: Weight of specificity in the ranking.
        layers: Layers to select from; None is all.
        seed: Seed of every random draw.
        level: Coverage of the interval.
        options: The method's own options.

    Raises:
        InputError: `stability` would raise it, there are fewer than ten draws, the level is outside (0, 1), or no draw selects
            a neuron.

    Example:
        >>> effect = nv.selection.nested_bootstrap(stats, "power", k=10, draws=10)
        >>> effect.value, effect.k
        ('power', 10)
    """
    if draws < 10 or not 0 < level < 1:
        raise InputError(f"a nested bootstrap needs at least 10 draws and a level in (0, 1): got {draws}, {level}")
    request = Request(value, k, model, lam=lam, layers=layers, seed=seed, options=options or {})
    request = resample_request(stats, request, method)
    clusters = clusters_of(stats, least=6)
    selected = reselect(stats, request, method)
    if not len(selected):
        raise InputError(f"{method} selects nothing for {value}: there is no effect to correct")
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(draws):
        picks = {name: rng.integers(0, len(groups), len(groups)) for name, groups in clusters.items()}
        rest = {name: np.setdiff1d(np.arange(len(clusters[name])), pick) for name, pick in picks.items()}
        resample, left_out = (
            subset_stats(stats, np.concatenate([rows_of(clusters[name], indices[name]) for name in clusters]))
            for indices in (picks, rest)
        )
        df = reselect(resample, request, method)
        if not len(df) or left_out.values != stats.values or _observations(left_out, value) < 2:
            continue
        index = (df["layer"].to_numpy(), df["neuron"].to_numpy())
        before, after = effects(resample, value)[0].g[index], effects(left_out, value)[0].g[index]
        sign = np.sign(before)
        rows.append({"resample": (sign * before).mean(), "left_out": (sign * after).mean(), "neurons": len(df)})
    if len(rows) < draws / 2:
        raise InputError(
            f"{value}: {draws - len(rows)} of {draws} resamples leave nothing to measure: give more clusters"
        )
    frame = pd.DataFrame(rows)
    apparent = float(np.abs(effects(stats, value)[0].g[selected["layer"], selected["neuron"]]).mean())
    optimism = float((frame["resample"] - frame["left_out"]).mean())
    lo, hi = containing(apparent - optimism, *np.quantile(frame["left_out"], [(1 - level) / 2, (1 + level) / 2]))
    return NestedEffect(value, method, k, apparent, apparent - optimism, optimism, float(lo), float(hi), frame)


def _observations(stats: ActivationStats, value: str) -> int:
    """Number of pairs, or of the smaller pole's texts without pairs."""
    v = stats.index(value)
    return int(stats.diff_n[v].sum()) or int(stats.n[v].sum(axis=-1).min())
