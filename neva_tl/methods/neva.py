"""The two NeVA conditions: the context-aware edit (the main method) and its constant shift."""

from __future__ import annotations

from neva_tl.editing import Amplify, ContextAware, Shift, fit_context
from neva_tl.methods.evidence import Evidence


def neva(evidence: Evidence, value: str) -> ContextAware:
    """Probe-gated edit of the selected neurons along their mean difference (METHODS 5)."""
    return fit_context(evidence.stats, evidence.neurons[value], scope=evidence.scope, seed=evidence.seed)


def neva_shift(evidence: Evidence, value: str) -> Shift:
    """The same neurons, always shifted by `dose * (mean(+) - mean(-))` (METHODS 4)."""
    return Amplify(evidence.neurons[value], scope=evidence.scope)
