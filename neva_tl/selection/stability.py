"""Stability selection: how often a neuron is among the k best of half-samples.

Meinshausen and Buehlmann (2010), with complementary halves (Shah and Samworth 2013): each draw splits the clusters of every
value in two halves and selects on both. A neuron selected by chance is rarely selected twice.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.activations import ActivationStats
from neva_tl.core.arguments import check_arguments
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
from neva_tl.core.theories import ValueName
from neva_tl.models import Model
from neva_tl.selection.base import Request, SelectionWarning, check_request, family_size
from neva_tl.selection.registry import find_selector, quick, run
from neva_tl.selection.resample import clusters_of, rows_of, subset_stats


@dataclass(frozen=True, eq=False)
class Stability:
    """Selection frequencies over half-samples.

    Attributes:
        value: The value.
        method: The selector.
        k: Number of neurons selected in each half-sample.
        halves: Number of half-samples (two for each draw).
        n_neurons: Number of candidate neurons.
        df: `layer, neuron, share` of every neuron selected at least once, most frequent first (ties in the model's order).
    """

    value: str
    method: str
    k: int
    halves: int
    n_neurons: int
    df: pd.DataFrame

    def stable(self, share: float = 0.9) -> pd.DataFrame:
        """Neurons selected in at least a given share of the half-samples.

        Args:
            share: The share, in [0, 1].
        """
        return self.df[self.df["share"] >= share]

    def expected_false(self, share: float = 0.9) -> float:
        """Bound on the expected number of wrong neurons in `stable(share)`.

        The bound is `k^2 / ((2 share - 1) n_neurons)`.

        Theorem 1 of Meinshausen and Buehlmann. It assumes that neurons without the value are exchangeable, and that selection
        is not worse than chance.

        Args:
            share: The share, in (.5, 1].

        Raises:
            InputError: The share is outside (.5, 1].
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


@check_arguments
def stability(
    stats: ActivationStats,
    value: ValueName,
    *,
    k: int,
    method: str = "effect_size",
    draws: int = 50,
    model: Model | None = None,
    lam: float = 1.0,
    layers: tuple[int, ...] | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Stability:
    """Share of half-samples of the clusters in which each neuron is among the k best.

    The screen is off in the half-samples, because the question is about the ranking.

    Args:
        stats: Statistics with samples.
        value: One of the collected values.
        k: Number of neurons selected in each half-sample.
        method: A selector, except placebos.
        draws: Number of draws of two complementary halves.
        model: The model, where the method reads weights.
        lam: Weight of specificity in the ranking.
        layers: Layers to select from; None is all.
        seed: Seed of every random draw.
        options: The method's own options.

    Raises:
        InputError: The statistics hold no samples, a value has fewer than four clusters, `draws` is below 1, the method is a
            placebo, or the selector refuses the request.
    """
    if draws < 1:
        raise InputError(f"draws = {draws}: stability needs at least one")
    request = Request(value, k, model, lam=lam, layers=layers, seed=seed, options=options or {})
    request = resample_request(stats, request, method)
    clusters = clusters_of(stats)
    rng = np.random.default_rng(seed)
    count = np.zeros((stats.n_layers, stats.d_mlp), dtype=np.int64)
    for _ in progress_bar(range(draws), desc="stability", unit="draw"):
        orders = {name: rng.permutation(len(rows)) for name, rows in clusters.items()}
        for second in (False, True):
            halves = {
                name: order[len(order) // 2 :] if second else order[: len(order) // 2] for name, order in orders.items()
            }
            rows = np.concatenate([rows_of(clusters[name], halves[name]) for name in clusters])
            df = reselect(subset_stats(stats, rows), request, method)
            count[df["layer"], df["neuron"]] += 1
    layer, neuron = np.nonzero(count)
    df = pd.DataFrame({"layer": layer, "neuron": neuron, "share": count[layer, neuron] / (2 * draws)})
    df = df.sort_values("share", ascending=False, kind="stable").reset_index(drop=True)
    return Stability(value, method, k, 2 * draws, family_size(stats, layers), df)


def resample_request(stats: ActivationStats, request: Request, method: str) -> Request:
    """The request of a re-selection: the k best without the screen.

    The selector's quick options replace its own.

    Args:
        stats: Statistics with samples.
        request: The request to repeat.
        method: The selector.

    Raises:
        InputError: The method is a placebo, or `check_request` refuses the request.
    """
    if find_selector(method).placebo:
        raise InputError(f"{method} is a placebo: name the selector whose choice is to be resampled")
    options = {**request.options, **quick(method)}
    request = replace(request, require_split_half=False, require_q=False, options=options)
    check_request(stats, request)
    return request


def reselect(stats: ActivationStats, request: Request, method: str) -> pd.DataFrame:
    """The neurons selected on resampled statistics.

    Suppresses the warning for fewer than k neurons.

    Args:
        stats: Statistics of the resample.
        request: A request of `resample_request`.
        method: The selector.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        return run(stats, request, method).df
