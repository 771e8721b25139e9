"""The two NeVA conditions: the context-aware edit and its constant shift."""

from __future__ import annotations

from neva_tl.core.arguments import check_arguments
from neva_tl.core.theories import ValueName
from neva_tl.editing import Amplify, ContextAware, Shift, fit_context
from neva_tl.methods.evidence import Evidence


@check_arguments
def neva(evidence: Evidence, value: ValueName) -> ContextAware:
    """Edit the selected neurons along their mean difference, with a probe gate.

    See METHODS 5.

    Args:
        evidence: Training data with samples.
        value: The value to steer towards.
    """
    return fit_context(evidence.stats, evidence.of(value), scope=evidence.token_scope, seed=evidence.seed)


@check_arguments
def neva_shift(evidence: Evidence, value: ValueName) -> Shift:
    """Constant shift of the same neurons by `dose * (mean(+) - mean(-))` (METHODS 4).

    Args:
        evidence: Training data.
        value: The value to steer towards.
    """
    return Amplify(evidence.of(value), scope=evidence.token_scope)
