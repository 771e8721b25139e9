"""Placebo: the same selector on shuffled poles, where there is nothing to find.

Poles are shuffled by cluster.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from neva_tl.activations import ActivationStats, Samples
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import ValueName
from neva_tl.models import Model
from neva_tl.selection.base import Request, check_request
from neva_tl.selection.registry import find_selector, quick, run

_ARRAYS = ("n", "mean", "m2", "positive", "diff_n", "diff_mean", "diff_m2")


@check_arguments
def label_shuffled(
    stats: ActivationStats, value: ValueName, *, like: NeuronSet, model: Model | None = None, seed: int = 0
) -> NeuronSet:
    """Repeat the selection of a set on poles shuffled by cluster.

    As many neurons are selected.

    The screen (q and split halves) is off: on shuffled poles nothing should pass it, and a placebo needs neurons.

    Args:
        stats: Statistics with samples (`collect(..., samples=True)`).
        value: The value whose poles are shuffled; other values keep theirs.
        like: The set to match in method, settings and size.
        model: The model, where the method reads weights.
        seed: Seed of the shuffle.

    Raises:
        InputError: The statistics hold no samples, the site is `gate`, or `like` is itself a placebo.
    """
    if find_selector(like.method).placebo:
        raise InputError(f"a label-shuffled placebo needs a selected set to follow, not one made by {like.method!r}")
    settings = dict(like.settings)
    layers = settings.get("layers")
    request = Request(
        value=value,
        k=max(1, len(like)),
        model=model,
        alpha=settings.get("alpha", 0.05),
        delta=settings.get("delta", 0.2),
        lam=settings.get("lam", 1.0),
        require_split_half=False,
        require_q=False,
        layers=None if layers is None else tuple(layers),
        site=like.site,
        seed=seed,
        options={**settings.get("options", {}), **quick(like.method)},
        k_requested=False,  # the caller named a set to follow, not a number
    )
    check_request(stats, request)
    neurons = run(shuffled_stats(stats, value, seed), request, like.method)
    return replace(neurons, method="label_shuffled", settings={**neurons.settings, "base": like.method})


def shuffled_stats(stats: ActivationStats, value: ValueName, seed: int = 0) -> ActivationStats:
    """The statistics with one value's poles shuffled by cluster.

    Residual means are unchanged, because the samples hold no residuals.

    Args:
        stats: Statistics with samples.
        value: The value whose poles are shuffled.
        seed: Seed of the shuffle.

    Raises:
        InputError: The statistics hold no samples.
    """
    if stats.samples is None:
        raise InputError("label shuffling needs single prompts: collect with samples=True (or a file to keep them in)")
    v = stats.index(value)
    table = stats.samples.table.reset_index(drop=True)
    rows = np.flatnonzero((table["value"] == value).to_numpy())
    shuffled = shuffle_poles(table.iloc[rows], np.random.default_rng(seed))
    one = ActivationStats.from_samples(
        np.asarray(stats.samples.h[rows], dtype=np.float32), shuffled, keep=False, theory=stats.theory
    )
    arrays = {}
    for name in _ARRAYS:
        array = getattr(stats, name).copy()
        array[v] = getattr(one, name)[0]
        arrays[name] = array
    poles = table["pole"].to_numpy(copy=True)
    poles[rows] = shuffled["pole"].to_numpy()
    samples = Samples(stats.samples.h, table.assign(pole=poles))
    return replace(stats, **arrays, gate_mean=None, gate_m2=None, gate_positive=None, samples=samples, texts=None)


def shuffle_poles(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Swap + and - in a random half of the clusters that hold both.

    The poles of the other clusters are permuted.

    Exactly half of the clusters are swapped (for an odd number, one more or less), so that a real effect cancels in every
    draw. Pairs stay pairs.

    Args:
        table: Rows of one value, with `cluster` and `pole`.
        rng: Source of the draw.
    """
    count = table.groupby("cluster")["pole"].nunique()
    both = count.index[count == 2].to_numpy()
    swapped = set(rng.permutation(both)[: len(both) // 2 + int(rng.integers(2)) * (len(both) % 2)])
    single = table[table["cluster"].isin(count.index[count == 1])].groupby("cluster")["pole"].first()
    dealt = dict(zip(single.index, rng.permutation(single.to_numpy(copy=True)), strict=True))
    flip = {"+": "-", "-": "+"}
    pole = [
        dealt.get(cluster, flip[pole] if cluster in swapped else pole)
        for cluster, pole in zip(table["cluster"], table["pole"], strict=True)
    ]
    return table.assign(pole=pole).reset_index(drop=True)


def select_shuffled(
    stats: ActivationStats, request: Request, *, like: NeuronSet | None = None, base: str = "effect_size"
) -> NeuronSet:
    """Registry entry of `label_shuffled`.

    Args:
        stats: Statistics with samples.
        request: The request.
        like: The set to match; None matches the selection of `base` for the same request.
        base: Name of a selector.
    """
    matched = run(stats, replace(request, options={}), base) if like is None else like
    return label_shuffled(stats, request.value, like=matched, model=request.model, seed=request.seed)
