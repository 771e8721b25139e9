"""Placebos: neurons drawn at random, and neurons selected after the poles were shuffled."""

from __future__ import annotations

from neva_tl.editing import Amplify, Shift
from neva_tl.methods.evidence import Evidence
from neva_tl.selection import label_shuffled as shuffled_selection
from neva_tl.selection import random_like


def random_neurons(evidence: Evidence, value: str) -> Shift:
    """As many neurons from the same layers, shifted so that each layer's writes have the same norm `W_out @ delta`."""
    chosen = random_like(evidence.neurons[value], evidence.stats, evidence.model, seed=evidence.seed)
    return Amplify(chosen, scope=evidence.scope)


def label_shuffled(evidence: Evidence, value: str) -> Shift:
    """The same selector on data whose poles were swapped at random within clusters: what selection finds in noise."""
    like = evidence.neurons[value]
    chosen = shuffled_selection(evidence.stats, value, like=like, model=evidence.model, seed=evidence.seed)
    return Amplify(chosen, scope=evidence.scope)
