"""Stability selection: how often a neuron is among the k best when selection sees half of the clusters.

Meinshausen and Buehlmann (2010), with complementary halves (Shah and Samworth 2013): each draw parts the clusters of every value
in two and selects on both. A neuron chosen by luck is rarely chosen twice.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.activations import ActivationStats
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.models import Model
from neva_tl.selection.base import Request, SelectionWarning, check_request
from neva_tl.selection.registry import quick, run
from neva_tl.selection.resample import clusters_of, part_of, rows_of


@dataclass(frozen=True, eq=False)
class Stability:
    """Selection frequencies over half-samples.

    Attributes:
        value, method, k: what was selected, how, and how many at most.
        halves: half-samples (two for each draw).
        n_neurons: neurons that could be chosen.
        df: `layer, neuron, share` of every neuron chosen at least once, most frequent first (ties in the model's order).
    """

    value: str
    method: str
    k: int
    halves: int
    n_neurons: int
    df: pd.DataFrame

    def stable(self, share: float = 0.9) -> pd.DataFrame:
        """Neurons chosen in at least this share of the half-samples."""
        return self.df[self.df["share"] >= share]

    def expected_false(self, share: float = 0.9) -> float:
        """Bound on the expected number of wrong neurons in `stable(share)`: `k^2 / ((2 share - 1) n_neurons)`.

        Theorem 1 of Meinshausen and Buehlmann, for neurons that carry nothing, are exchangeable, and are chosen no worse than
        by chance.

        Raises:
            InputError: a share outside (.5, 1].
        """
        if not 0.5 < share <= 1:
            raise InputError(f"share {share} is not above .5 and at most 1: there is no bound")
        return self.k**2 / ((2 * share - 1) * self.n_neurons)

    def _repr_html_(self) -> str:
        facts = {
            "selector": self.method,
            "k": self.k,
            "half-samples": self.halves,
            "in 90 % of them": len(self.stable()),
        }
        facts |= {"wrong ones among those, at most": self.expected_false()}
        return card(f"Stability of the neurons of {self.value}", facts, self.df)

    def show(self) -> Any:
        """Shares of the 30 most stable neurons as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        top = self.df.head(30)
        label = [f"L{layer}.{neuron}" for layer, neuron in zip(top["layer"], top["neuron"], strict=True)]
        rows = pd.DataFrame({"label": label, "est": top["share"].to_numpy(), "lo": np.nan, "hi": np.nan})
        return interval_plot(rows, title=f"Stability, {self.value}", axis="share of half-samples", guide=0.9)


def stability(
    stats: ActivationStats,
    value: str,
    *,
    k: int,
    method: str = "effect_size",
    draws: int = 50,
    model: Any = None,
    lam: float = 1.0,
    layers: tuple[int, ...] | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Stability:
    """Share of half-samples of the clusters in which each neuron is among the k best.

    The screen is off in the half-samples: the ranking is what is asked about.

    Args:
        stats: statistics with samples.
        value: one of the collected values.
        k: neurons chosen in each half-sample.
        method: a selector (no placebo).
        draws: draws of two complementary halves.
        model: the model, where the method reads weights.
        lam, layers, seed: see `Request`.
        options: the method's own.

    Raises:
        InputError: no samples, fewer than four clusters of a value, no draws, a placebo, or what the selector refuses.
    """
    if draws < 1:
        raise InputError(f"draws = {draws}: stability needs at least one")
    request = resample_request(stats, value, k=k, method=method, model=model, lam=lam, layers=layers, seed=seed,
                               options=options)  # fmt: skip
    clusters = clusters_of(stats)
    rng = np.random.default_rng(seed)
    count = np.zeros((stats.n_layers, stats.d_mlp), dtype=np.int64)
    for _ in range(draws):
        orders = {name: rng.permutation(len(found)) for name, found in clusters.items()}
        for second in (False, True):
            picked = {
                name: order[len(order) // 2 :] if second else order[: len(order) // 2] for name, order in orders.items()
            }
            rows = np.concatenate([rows_of(clusters[name], picked[name]) for name in clusters])
            df = reselect(part_of(stats, rows), request, method)
            count[df["layer"], df["neuron"]] += 1
    layer, neuron = np.nonzero(count)
    df = pd.DataFrame({"layer": layer, "neuron": neuron, "share": count[layer, neuron] / (2 * draws)})
    df = df.sort_values("share", ascending=False, kind="stable").reset_index(drop=True)
    total = (stats.n_layers if layers is None else len(set(layers))) * stats.d_mlp
    return Stability(value, method, k, 2 * draws, total, df)


def resample_request(
    stats: ActivationStats,
    value: str,
    *,
    k: int,
    method: str,
    model: Model,
    lam: float,
    layers: tuple[int, ...] | None,
    seed: int,
    options: Mapping[str, Any] | None,
) -> Request:
    """The request of a re-selection: the k best without the screen, without sign flips.

    Raises:
        InputError: a placebo, or what `check_request` refuses.
    """
    if method in ("random", "label_shuffled"):
        raise InputError(f"{method} is a placebo: name the selector whose choice is to be resampled")
    request = Request(value, k, model, lam=lam, require_split_half=False, require_q=False, layers=layers, seed=seed,
                      options={**(options or {}), **quick(method)})  # fmt: skip
    check_request(stats, request)
    return request


def reselect(part: ActivationStats, request: Request, method: str) -> pd.DataFrame:
    """The neurons selected on part of the prompts; that fewer than k are left is no surprise there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        return run(part, request, method).df
