"""Effect sizes, intervals, tests, false discovery, resampling and power: pure functions on arrays and moments.

No model code is imported. Moments are `(n, mean, M2)` with any trailing dimensions, so that one call covers 46,080 neurons.
"""

from neva_tl.core.statistics.effects import (
    Effect,
    effect_variance,
    hedges_correction,
    hedges_g,
    interval,
    least_t,
    mean_interval,
    minimum_effect_p,
    paired_g,
    paired_t,
    welch,
    welch_effect,
)
from neva_tl.core.statistics.limits import containing, shifted, wilson
from neva_tl.core.statistics.moments import Moments, check_moments, merge_moments, moments
from neva_tl.core.statistics.multiplicity import StepUp, benjamini_hochberg, cluster_means, sign_flip_max_t, step_up_p
from neva_tl.core.statistics.overlap import Overlap, overlap
from neva_tl.core.statistics.pooling import PooledEffect, mean_change, pool_effects
from neva_tl.core.statistics.power import detectable_g, pairs_needed, power_of_t
from neva_tl.core.statistics.resampling import (
    Estimate,
    cluster_bootstrap,
    halves_of_folds,
    mantel,
    spearman,
    split_half_agreement,
)

__all__ = [
    "Effect",
    "Estimate",
    "Moments",
    "Overlap",
    "PooledEffect",
    "StepUp",
    "benjamini_hochberg",
    "check_moments",
    "cluster_bootstrap",
    "cluster_means",
    "containing",
    "detectable_g",
    "effect_variance",
    "halves_of_folds",
    "hedges_correction",
    "hedges_g",
    "interval",
    "least_t",
    "mantel",
    "mean_change",
    "mean_interval",
    "merge_moments",
    "minimum_effect_p",
    "moments",
    "overlap",
    "paired_g",
    "paired_t",
    "pairs_needed",
    "pool_effects",
    "power_of_t",
    "shifted",
    "sign_flip_max_t",
    "spearman",
    "split_half_agreement",
    "step_up_p",
    "welch",
    "welch_effect",
    "wilson",
]
