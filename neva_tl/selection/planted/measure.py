"""Accuracy of selectors in worlds with planted neurons.

Recall, false discoveries, decoys and ranking.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from neva_tl.activations import ActivationStats, collect
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.statistics import mean_interval, wilson
from neva_tl.selection import SELECTORS, SelectionWarning, default_k, select
from neva_tl.selection.planted.world import PLANTED, World, make_world
from neva_tl.selection.registry import options_of, quick

#: Recall counts planted neurons from this measured population d_z on.
LEAST = 0.8
#: Variants that are measured in addition to each selector's defaults.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "causal_gradient": ("causal", {"path": "gradient"}),
    "effect_size_delta0": ("effect_size", {"delta": 0.0}),
}
DECOYS = ("silent decoy", "decoy")


def measure_selectors(
    n_models: int,
    *,
    early: bool = False,
    pairs: int = 100,
    seed: int = 0,
    d_mlp: int = 512,
    population: int = 3000,
    methods: Sequence[str] | None = None,
    values: Sequence[str] = PLANTED,
    progress: Callable[[Iterator[int]], Iterator[int]] = iter,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run every selector on random worlds, for one value of each, and count.

    Args:
        n_models: Number of worlds; world i is measured for value i modulo the number of values.
        early: Plant in the second layer, so that later neurons respond to the plants.
        pairs: Number of pairs per value.
        seed: Seed of the first world.
        d_mlp: Number of neurons of a layer (there are four layers).
        population: Number of pairs of the independent sample that gives the plants' d_z.
        methods: Selectors and names in `VARIANTS`; None is all.
        values: Planted values.
        progress: Wraps the loop over worlds.

    Returns:
        Counts (one row per world and method) and plants (one row per world and plant of its value, with population d_z).

    Raises:
        InputError: A method is unknown, or `n_models` is below 1.

    Example:
        >>> counts, plants = nv.planting.measure_selectors(20, methods=["effect_size", "neva"])  # doctest: +SKIP
    """
    names = [*SELECTORS, *VARIANTS] if methods is None else list(methods)
    for name in names:
        if name not in SELECTORS and name not in VARIANTS:
            raise InputError(f"unknown selector {name!r}: choose from {', '.join([*SELECTORS, *VARIANTS])}")
    if n_models < 1:
        raise InputError(f"models = {n_models}: at least one is needed")
    counts, plants = [], []
    for i in progress(iter(range(n_models))):
        value = values[i % len(values)]
        world = make_world(seed + i, early=early, d_mlp=d_mlp, values=values)
        truth = world.population(value, population, seed + i)
        stats = collect(world.model, world.contrast(pairs, seed + i), split=None, samples=True)
        plants.append(truth.assign(world=i))
        counts += [
            {"world": i, "value": value, "method": name, **_count(world, stats, value, truth, name)} for name in names
        ]
    return pd.DataFrame(counts), pd.concat(plants, ignore_index=True)


def _count(world: World, stats: ActivationStats, value: str, truth: pd.DataFrame, name: str) -> dict[str, Any]:
    """Counts of one selector: by its defaults, and of the k best without a screen."""
    method, extra = VARIANTS.get(name, (name, {}))
    options = {**extra, **quick(method)}
    if "words" in options_of(method):
        options["words"] = world.words
    bare = {"require_write": False} if "require_write" in options_of(method) else {}
    total = stats.n_layers * stats.d_mlp
    layer = int(truth["layer"].iloc[0])
    try:
        neurons = _select(stats, value, method, world, **options)
        ranked = _select(stats, value, method, world, k=total, require_q=False, require_split_half=False,
                         **{**options, **bare})  # fmt: skip
    except InputError as error:
        return {"refused": str(error)}
    selected = _flat(neurons, stats)
    # a selection that reaches the cap of `default_k` hides further neurons that pass the screen
    full = len(selected) == default_k(total) and not SELECTORS[method].placebo
    passed = _flat(_select(stats, value, method, world, k=total, **options), stats) if full else selected
    score = np.full(total, -np.inf)
    order = _flat(ranked, stats)
    score[order] = -np.arange(len(order))
    score = np.where(np.isfinite(score), score, -total - 1.0)
    at = {kind: (rows["layer"] * stats.d_mlp + rows["neuron"]).to_numpy() for kind, rows in truth.groupby("kind")}
    strong = truth[(truth["kind"] == "writer") & (truth["d_z"] >= LEAST)]
    writers = (strong["layer"] * stats.d_mlp + strong["neuron"]).to_numpy()
    decoys = np.concatenate([at[kind] for kind in DECOYS])
    responding = np.concatenate(list(at.values()))
    null = np.setdiff1d(np.arange((layer + 1) * stats.d_mlp), responding)
    best = order[: len(responding)]
    rest = np.setdiff1d(np.arange(total), responding)
    false = int(np.isin(selected, null).sum())
    # neurons in later layers respond to the plants: they count as neither planted nor false
    judged = int((selected < (layer + 1) * stats.d_mlp).sum())
    return {
        "refused": "",
        "selected": len(selected),
        "writers": len(writers),
        "writers_passed": int(np.isin(writers, passed).sum()),
        "writers_found": int(np.isin(writers, selected).sum()),
        "writers_at_k": int(np.isin(writers, best).sum()),
        "k": len(responding),
        "false": false,
        "downstream": len(selected) - judged,
        "fdp": false / max(judged, 1),
        "auroc": _auroc(score, writers, rest),
        "auroc_decoys": _auroc(score, writers, decoys),
        **{f"{kind}s": len(at[kind]) for kind in ("shared", *DECOYS)},
        **{f"{kind}s_found": int(np.isin(at[kind], selected).sum()) for kind in ("shared", *DECOYS)},
    }


def _select(stats: ActivationStats, value: str, method: str, world: World, **options: Any) -> NeuronSet:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        return select(stats, value, method=method, model=world.model, **options)


def _flat(neurons: NeuronSet, stats: ActivationStats) -> np.ndarray:
    return (neurons.df["layer"] * stats.d_mlp + neurons.df["neuron"]).to_numpy(dtype=np.int64)


def _auroc(score: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> float:
    if not len(positives) or not len(negatives):
        return float("nan")
    label = np.concatenate([np.ones(len(positives)), np.zeros(len(negatives))])
    return float(roc_auc_score(label, score[np.concatenate([positives, negatives])]))


#: Shares in the summary: name -> (hits, total). Both are summed over worlds.
SHARES: Mapping[str, tuple[str, str]] = {
    "recall": ("writers_found", "writers"),
    "recall_uncapped": ("writers_passed", "writers"),
    "recall_at_k": ("writers_at_k", "writers"),
    "silent_decoys_admitted": ("silent decoys_found", "silent decoys"),
    "decoys_admitted": ("decoys_found", "decoys"),
    "shared_admitted": ("shareds_found", "shareds"),
}
#: Means over worlds.
MEANS: Mapping[str, str] = {"fdr": "fdp", "auroc": "auroc", "auroc_decoys": "auroc_decoys", "n_selected": "selected"}


def summary(counts: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Measures per method with intervals.

    `recall`: writers found by the selector's defaults, which keep at most `default_k` neurons; `recall_uncapped`: by its screen
    without that cap; `recall_at_k`: among the k best without the screen, k the number of the value's planted neurons of all
    kinds. Shares are pooled over worlds with Wilson's interval (statsmodels); neurons of one world share its texts, which these
    intervals ignore. The false discovery rate is the mean over worlds of the share of null neurons among those selected at the
    plants' layer or below, with a t interval over worlds; the AUROCs are computed alike.

    Args:
        counts: Counts of `measure_selectors`.
        level: Coverage of the intervals.

    Returns:
        Columns method, measure, est, lo, hi, n (neurons, or worlds).

    Example:
        >>> counts, plants = nv.planting.measure_selectors(20)  # doctest: +SKIP
        >>> table = nv.planting.summary(counts)  # doctest: +SKIP
    """
    rows = []
    for method, of_all in counts.groupby("method", sort=False):
        group = of_all[of_all["refused"] == ""]
        if not len(group):
            rows.append((method, "refused", np.nan, np.nan, np.nan, len(of_all)))
            continue
        for name, (hits, total) in SHARES.items():
            rows.append((method, name, *share(int(group[hits].sum()), int(group[total].sum()), level)))
        for name, column in MEANS.items():
            mean, lo, hi = mean_interval(group[column].to_numpy(dtype=np.float64)[:, None], level)
            rows.append((method, name, float(mean[0]), float(lo[0]), float(hi[0]), len(group)))
    return pd.DataFrame(rows, columns=["method", "measure", "est", "lo", "hi", "n"])


def share(hits: int, total: int, level: float = 0.95) -> tuple[float, float, float, int]:
    """A share with Wilson's interval; NaN if the total is 0.

    Args:
        hits: Number of hits.
        total: Number of trials.
        level: Coverage of the interval.

    Returns:
        Share, lower end, upper end, total.
    """
    if not total:
        return np.nan, np.nan, np.nan, 0
    return hits / total, *wilson(hits, total, level), total
