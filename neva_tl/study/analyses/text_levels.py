"""Which levels of a search's factors helped: the best of each level against the best of the factor's first level."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.statistics import cluster_bootstrap

#: Factors of the search: columns of its table.
FACTORS = ("selection", "k", "layers", "way")


def interval_of_mean(
    change: Float[np.ndarray, " n"], topics: np.ndarray, n_boot: int, seed: int = 0
) -> tuple[float, float, float]:
    """Return the mean of some changes and its 95 % interval, topics resampled.

    Args:
        change: The changes; NaN = missing.
        topics: Topic of each.
        n_boot: Bootstrap draws; 0 returns NaN as the ends.
        seed: Seed of the draws.

    Returns:
        Mean, lower and upper end; NaN where they are not defined.
    """
    finite = np.isfinite(change)
    if not finite.any():
        return (float("nan"),) * 3
    mean = float(change[finite].mean())
    if not n_boot or len(set(topics[finite].tolist())) < 2:
        return mean, float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    estimate = cluster_bootstrap(change[finite], topics[finite], np.mean, n=n_boot, rng=rng)
    return mean, float(estimate.lo), float(estimate.hi)


def compare_levels(
    df: pd.DataFrame, changes: Mapping[str, np.ndarray], topics: np.ndarray, *, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Compare the best admissible dose of each level with that of the factor's first level, on the same texts.

    Both are the largest of several gains, so each is a little optimistic; a level with more candidates a little more.

    Args:
        df: Table of a search: `FACTORS`, candidate, dose, gain, admissible, placebo, cell; levels in the order of their rows.
        changes: Cell -> change of each text's score.
        topics: Topic of each text.
        n_boot: Bootstrap draws.
        seed: Seed of the draws.

    Returns:
        One row per level of each factor with more than one: factor, level, cells, admissible (cells), candidate and dose of its
        best, gain with its ends, leakage, repeated, perplexity; `difference` to the first level's best with its ends, and
        `helped`: `yes` or `no` where that interval excludes 0, else `unclear`; `reference` for the first level.
    """
    rows = []
    for factor in FACTORS:
        # a placebo is a level of the selection, and no evidence for a level of another factor
        family = df if factor == "selection" else df[~df["placebo"]]
        levels = list(dict.fromkeys(family[factor].astype(str)))
        reference: str | None = None
        for number, level in enumerate(levels if len(levels) > 1 else []):
            group = family[family[factor].astype(str) == level]
            good = group[group["admissible"]]
            row = {"factor": factor, "level": level, "cells": len(group), "admissible": len(good)}
            difference = (float("nan"),) * 3
            if len(good):
                best = good.iloc[int(good["gain"].to_numpy(dtype=float).argmax())]
                names = ("candidate", "dose", "gain", "gain_lo", "gain_hi", "leakage", "repeated", "perplexity")
                row |= {name: best[name] for name in names}
                if number == 0:
                    reference = str(best["cell"])
                elif reference is not None:
                    gap = changes[str(best["cell"])] - changes[reference]
                    difference = interval_of_mean(gap, topics, n_boot, seed)
            row |= dict(zip(("difference", "difference_lo", "difference_hi"), difference, strict=True))
            row["helped"] = "reference" if number == 0 else _verdict(difference, bool(len(good)))
            rows.append(row)
    return pd.DataFrame(rows)


def _verdict(difference: tuple[float, float, float], any_admissible: bool) -> str:
    if not any_admissible:
        return "nothing admissible"
    _, lo, hi = difference
    return "yes" if lo > 0 else "no" if hi < 0 else "unclear"
