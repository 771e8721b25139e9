"""NPTI (ICLR 2025): neurons by activation probability, raised at the gate.

The variant for values follows ValueLocate (2505.17712).

Both groups come from the selector `activation_probability` at `act(gate)` (`hook_post` in models without a gate): neurons that
fire more on texts that express the value are raised, neurons that fire more on opposing texts are silenced (`GateShift`). q95
is taken over all answer tokens of the value's training texts. The papers edit generated tokens only; here the scope is the one
that all methods share.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from neva_tl import selection
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import ValueName
from neva_tl.editing import GateShift
from neva_tl.methods.evidence import Evidence
from neva_tl.methods.texts import token_quantiles
from neva_tl.models import info


@check_arguments
def npti(evidence: Evidence, value: ValueName) -> GateShift:
    """Raise the value's neurons and silence the opposing ones, at gamma 1.

    Args:
        evidence: Training data with samples and, for a gated model, with the gate's statistics.
        value: The value to steer towards.

    Raises:
        InputError: A gated model whose statistics were collected without the gate, or statistics without samples.
    """
    gated = info(evidence.model).gated
    if gated and not evidence.stats.gated:
        raise InputError("npti reads activations of the gate alone: collect with gate=True")
    options: dict[str, Any] = {"method": "activation_probability", "site": "gate" if gated else "post"}
    raised, silenced = (selection.select(evidence.stats, value, pole=pole, **options) for pole in "+-")
    both = raised.with_df(pd.concat([raised.df, silenced.df], ignore_index=True))
    return GateShift(with_q95(evidence, value, both), scope=evidence.token_scope)


def with_q95(evidence: Evidence, value: str, neurons: NeuronSet) -> NeuronSet:
    """The set with a column `q95`: the 95 % quantile of each neuron's activation.

    Args:
        evidence: Training data with samples.
        value: The value whose texts are read.
        neurons: The neurons.

    Raises:
        InputError: The set is empty, or the statistics hold no samples.
    """
    if not len(neurons):
        raise InputError(f"no neuron fires more often on one pole of {value}: npti has nothing to edit")
    return neurons.with_df(neurons.df.assign(q95=token_quantiles(evidence, value, neurons, 0.95, "npti")))
