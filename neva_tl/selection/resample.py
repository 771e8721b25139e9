"""Statistics of a sample of the prompts, drawn by whole clusters.

Stability selection and the nested bootstrap select on them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Int

from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError


def subset_stats(stats: ActivationStats, rows: Int[np.ndarray, " n"]) -> ActivationStats:
    """Statistics of some rows of the samples.

    Residual means stay those of all prompts, because samples hold no residuals.

    Args:
        stats: Statistics with samples.
        rows: Row numbers; a repeated row counts again, and its copy forms a pair of its own.

    Raises:
        InputError: The statistics hold no samples.
    """
    if stats.samples is None:
        raise InputError("resampling needs single prompts: collect with samples=True (or a file to keep them in)")
    table = stats.samples.table.iloc[rows].reset_index(drop=True)
    copy = pd.Series(rows).groupby(rows).cumcount()
    pair = table["pair_id"].where(table["pair_id"].isna(), table["pair_id"].astype(str) + "#" + copy.astype(str))
    h = np.asarray(stats.samples.h[rows], dtype=np.float32)
    subset = ActivationStats.from_samples(
        h,
        table.assign(pair_id=pair),
        info=stats.info,
        fingerprint=stats.fingerprint,
        prompt_hash=stats.prompt_hash,
        pooling=stats.pooling,
        theory=stats.theory,
    )
    return replace(subset, resid=stats.resid) if subset.values == stats.values else subset


def clusters_of(stats: ActivationStats, least: int = 4) -> dict[str, list[Int[np.ndarray, " _"]]]:
    """Value -> the rows of each of its clusters.

    Args:
        stats: Statistics with samples.
        least: Minimum number of clusters of each value.

    Raises:
        InputError: The statistics hold no samples, or a value has fewer than `least` clusters.
    """
    if stats.samples is None:
        raise InputError("resampling needs single prompts: collect with samples=True (or a file to keep them in)")
    table = stats.samples.table.reset_index(drop=True)
    out = {}
    for value in stats.values:
        texts = table[table["value"] == value]
        clusters = texts.groupby("cluster", sort=True).indices.values()
        out[value] = [texts.index.to_numpy()[np.asarray(rows)] for rows in clusters]
        if len(out[value]) < least:
            raise InputError(f"{value} has {len(out[value])} clusters: resampling by cluster needs at least {least}")
    return out


def rows_of(clusters: list[Int[np.ndarray, " _"]], indices: Int[np.ndarray, " m"]) -> Int[np.ndarray, " n"]:
    """Rows of some clusters, one cluster after the other.

    Args:
        clusters: Rows of each cluster.
        indices: Indices of the clusters.
    """
    return np.concatenate([clusters[i] for i in indices]) if len(indices) else np.zeros(0, dtype=np.int64)
