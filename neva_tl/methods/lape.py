"""LAPE (Tang et al. 2024) carried to values: the neurons that fire for few values are held at a level.

`h_k += dose * (r_k - h_k)`, r the neuron's mean on the value's + texts (switched on, the way to steer) or 0 (switched off, the
paper's test of what they do): the dose interpolates, 1 holds the neuron there.
"""

from __future__ import annotations

import warnings
from typing import Literal

from neva_tl import selection
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Ablate
from neva_tl.methods.evidence import Evidence
from neva_tl.selection import SelectionWarning

SHARE = 0.01


def lape(evidence: Evidence, value: str, *, to: Literal["plus", "zero"] = "plus") -> Ablate:
    """Hold the value's neurons at their + mean, or at 0.

    Raises:
        InputError: no neuron fires for few values and this one.
    """
    return Ablate(own_neurons(evidence, value), mode=to, effects="all", scope=evidence.scope)


def own_neurons(evidence: Evidence, value: str) -> NeuronSet:
    """Selector `lape` at the published 1 % of all neurons; doubled until the value has one (ours: 1 % of a small model's
    neurons, shared by ten values, may leave a value none).
    """
    share = SHARE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)  # an empty set is refused by the edit
        while True:
            found = selection.select(evidence.stats, value, method="lape", share=share)
            if len(found) or share >= 1:
                return found
            share = min(1.0, 2 * share)
