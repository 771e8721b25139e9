"""Bootstrap over prompts, seeds and values at once.

Prompts are crossed with values (every value is read on the same prompts), seeds are nested in values. Each draw takes the
prompts with replacement (one draw for all values, seeds and methods), the values with replacement, and within each drawn value
its seeds with replacement: the pigeonhole bootstrap of crossed factors (Owen 2007, Annals of Applied Statistics 1(2), 386-411),
whose variance is not too small for crossed effects, with the nested level of Davison and Hinkley (1997, section 3.8). Three seeds
are few: resampling n of them gives (n - 1) / n of their variance. Values of a theory are not a random sample either: the interval
over values shows whether a gain depends on the values that were steered.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

#: Fewest values for an interval over values, and fewest seeds of a value for seeds to be resampled.
MIN_VALUES, MIN_SEEDS = 3, 2


def resampled_mean(
    draws: Sequence[Sequence[Float[np.ndarray, " b"]]], *, seed: int, over_values: bool
) -> Float[np.ndarray, " b"]:
    """Compute the mean over values of the mean over seeds, on the data (row 0) and on the draws.

    The picks depend on the seed and the numbers of values and seeds alone, so that two methods with the same values and seeds
    share them.

    Args:
        draws: Per value, per seed, the statistic on the data (row 0) and on bootstrap draws of the prompts.
        seed: Seed of the picks.
        over_values: Resample the values too; otherwise they are fixed.
    """
    counts = np.array([len(of_value) for of_value in draws])
    n_values, n_rows = len(draws), len(draws[0][0])
    padded = np.full((n_values, int(counts.max()), n_rows), np.nan)
    for i, of_value in enumerate(draws):
        padded[i, : len(of_value)] = np.stack(of_value)
    rng = np.random.default_rng([seed, n_values, *counts.tolist()])
    values = np.tile(np.arange(n_values), (n_rows, 1))
    if over_values:
        values = rng.integers(0, n_values, (n_rows, n_values))
        values[0] = np.arange(n_values)
    picks = rng.random((n_rows, n_values, int(counts.max())))
    total = np.zeros(n_rows)
    rows = np.arange(n_rows)
    for slot in range(n_values):
        value = values[:, slot]
        n_seeds = counts[value]
        of_slot = np.zeros(n_rows)
        for s in range(int(counts.max())):
            inside = s < n_seeds
            pick = np.where(n_seeds >= MIN_SEEDS, np.floor(picks[:, slot, s] * n_seeds).astype(int), 0)
            pick[0] = min(s, n_seeds[0] - 1)  # the data: each seed once
            of_slot += np.where(inside, padded[value, pick, rows], 0.0)
        total += of_slot / n_seeds
    return total / n_values
