"""DPN-LE (2604.27929): the largest mean shifts, added with weights by rank. `h_k += gamma * s_k * rank_weight_k`."""

from __future__ import annotations

from neva_tl import selection
from neva_tl.editing import Shift
from neva_tl.methods.evidence import Evidence


def dpn_le(evidence: Evidence, value: str) -> Shift:
    """Neurons of the selector `mean_shift`, shifted by `dose * (mean_plus - mean_minus) * rank_weight`; the dose is gamma.

    Raises:
        InputError: no neuron passes the selector.
    """
    neurons = selection.select(evidence.stats, value, method="mean_shift")
    return Shift(neurons, weights="rank_weight", scope=evidence.scope)
