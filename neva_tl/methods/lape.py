"""LAPE (Tang et al. 2024) for values: set neurons to a fixed level.

The neurons are those of selector `lape`, which fire for few values; `h_k += dose * (r_k - h_k)`. The level r is the neuron's
mean on the value's + texts (switched on, to steer) or 0 (switched off, the paper's test of the neurons' function). The dose
interpolates: at 1 the neuron has the level.
"""

from __future__ import annotations

import warnings
from typing import Literal

from neva_tl import selection
from neva_tl.core.arguments import check_arguments
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import ValueName
from neva_tl.editing import Ablate
from neva_tl.methods.evidence import Evidence
from neva_tl.selection import SelectionWarning

SHARE = 0.01


@check_arguments
def lape(evidence: Evidence, value: ValueName, *, to: Literal["plus", "zero"] = "plus") -> Ablate:
    """Set the value's neurons to their + mean, or to 0.

    Args:
        evidence: Training data.
        value: The value to steer towards.
        to: The level: `plus` for the + mean, `zero` for 0.

    Raises:
        InputError: No neuron fires for this value and few others.
    """
    return Ablate(value_neurons(evidence, value), mode=to, effects="all", scope=evidence.token_scope)


def value_neurons(evidence: Evidence, value: str) -> NeuronSet:
    """The neurons of selector `lape` at the published 1 % of all neurons, or at more.

    The share is doubled until the value has a neuron (ours): 1 % of a small model's neurons, shared by ten values, may leave a
    value none.

    Args:
        evidence: Training data.
        value: The value.
    """
    share = SHARE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)  # the edit refuses an empty set
        while True:
            neurons = selection.select(evidence.stats, value, method="lape", share=share)
            if len(neurons) or share >= 1:
                return neurons
            share = min(1.0, 2 * share)
