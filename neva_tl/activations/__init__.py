"""Activations: streaming, mergeable contrast statistics of `hook_post`."""

from neva_tl.activations.accumulate import N_FOLDS, POLES, fold_of
from neva_tl.activations.collecting import collect
from neva_tl.activations.plan import token_hash
from neva_tl.activations.pooling import Pooling
from neva_tl.activations.stats import ActivationStats, Samples

__all__ = ["N_FOLDS", "POLES", "ActivationStats", "Pooling", "Samples", "collect", "fold_of", "token_hash"]
