"""Placebos: random neurons, and neurons selected on shuffled poles."""

from __future__ import annotations

from neva_tl.core.arguments import check_arguments
from neva_tl.core.theories import ValueName
from neva_tl.editing import Amplify, Shift
from neva_tl.methods.evidence import Evidence
from neva_tl.selection import label_shuffled as shuffled_selection
from neva_tl.selection import random_like


@check_arguments
def random_neurons(evidence: Evidence, value: ValueName) -> Shift:
    """Shift as many random neurons of the same layers by the same norm.

    The norm of each layer's write `W_out @ delta` equals that of the value's neurons.

    Args:
        evidence: Training data.
        value: The value whose neurons are matched.
    """
    neurons = random_like(evidence.of(value), evidence.stats, evidence.model, seed=evidence.seed)
    return Amplify(neurons, scope=evidence.token_scope)


@check_arguments
def label_shuffled(evidence: Evidence, value: ValueName) -> Shift:
    """Shift neurons that the same selector finds on shuffled poles.

    The poles are swapped at random within clusters.

    Args:
        evidence: Training data with samples.
        value: The value whose poles are shuffled.
    """
    like = evidence.of(value)
    neurons = shuffled_selection(evidence.stats, value, like=like, model=evidence.model, seed=evidence.seed)
    return Amplify(neurons, scope=evidence.token_scope)
