"""Statistics of part of the prompts, drawn by whole clusters: what stability selection and the nested bootstrap select on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Int

from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError


def part_of(stats: ActivationStats, rows: Int[np.ndarray, " n"]) -> ActivationStats:
    """Statistics of some rows of the samples; a row may come more than once (its pair is then a pair of its own).

    Residual means stay those of all prompts: samples hold none.

    Raises:
        InputError: the statistics hold no samples.
    """
    if stats.samples is None:
        raise InputError("resampling needs single prompts: collect with samples=True (or a file to keep them in)")
    table = stats.samples.table.iloc[rows].reset_index(drop=True)
    copy = pd.Series(rows).groupby(rows).cumcount()
    pair = table["pair_id"].where(table["pair_id"].isna(), table["pair_id"].astype(str) + "#" + copy.astype(str))
    h = np.asarray(stats.samples.h[rows], dtype=np.float32)
    part = ActivationStats.from_samples(
        h,
        table.assign(pair_id=pair),
        info=stats.info,
        fingerprint=stats.fingerprint,
        prompt_hash=stats.prompt_hash,
        pooling=stats.pooling,
    )
    return replace(part, resid=stats.resid) if part.values == stats.values else part


def clusters_of(stats: ActivationStats, least: int = 4) -> dict[str, list[Int[np.ndarray, " _"]]]:
    """Per value, the rows of each of its clusters.

    Raises:
        InputError: no samples, or a value with fewer than `least` clusters.
    """
    if stats.samples is None:
        raise InputError("resampling needs single prompts: collect with samples=True (or a file to keep them in)")
    table = stats.samples.table.reset_index(drop=True)
    out = {}
    for value in stats.values:
        mine = table[table["value"] == value]
        out[value] = [np.asarray(rows) for rows in mine.groupby("cluster", sort=True).indices.values()]
        out[value] = [mine.index.to_numpy()[rows] for rows in out[value]]
        if len(out[value]) < least:
            raise InputError(f"{value} has {len(out[value])} clusters: resampling by cluster needs at least {least}")
    return out


def rows_of(clusters: list[Int[np.ndarray, " _"]], picked: Int[np.ndarray, " m"]) -> Int[np.ndarray, " n"]:
    """Rows of the picked clusters, one after the other."""
    return np.concatenate([clusters[i] for i in picked]) if len(picked) else np.zeros(0, dtype=np.int64)
