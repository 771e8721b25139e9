"""DPN-LE (2604.27929): the largest mean shifts, added with weights by rank.

`h_k += gamma * s_k * rank_weight_k`, s_k the neuron's mean shift.
"""

from __future__ import annotations

from neva_tl import selection
from neva_tl.core.arguments import check_arguments
from neva_tl.core.theories import ValueName
from neva_tl.editing import Shift
from neva_tl.methods.evidence import Evidence


@check_arguments
def dpn_le(evidence: Evidence, value: ValueName) -> Shift:
    """Shift the neurons of selector `mean_shift`; the dose is gamma.

    The shift is `dose * (mean_plus - mean_minus) * rank_weight`.

    Args:
        evidence: Training data.
        value: The value to steer towards.

    Raises:
        InputError: No neuron passes the selector.
    """
    neurons = selection.select(evidence.stats, value, method="mean_shift")
    return Shift(neurons, weights="rank_weight", scope=evidence.token_scope)
