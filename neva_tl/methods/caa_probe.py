"""CAA with the probe gate of `neva`.

These are the vector cells of the comparison {neurons, vectors} x {no gate, same probe gate}.

Each layer has a probe on the residual stream, fitted by the recipe of `fit_context` (same texts, same pooling, C = .05,
balanced). It estimates the log-odds that a token lacks; the edit adds them along the layer's mean difference, plain or with
the other values' directions projected out. Several layers, as in `caa_layers` (`spread_layers`); each adds everything that its
probe finds lacking after the edits of earlier layers. (Ours.)
"""

from __future__ import annotations

from neva_tl.activations.pooling import Weighted
from neva_tl.core.arguments import check_arguments
from neva_tl.core.theories import ValueName
from neva_tl.editing import ProbedVector, fit_vector_probes
from neva_tl.methods.caa import projected_direction
from neva_tl.methods.caa_layers import spread_layers
from neva_tl.methods.evidence import Evidence
from neva_tl.methods.texts import need_samples, residuals
from neva_tl.selection.contrast import probe_rows

#: + prompts of each other value among the negatives, as in `fit_context`.
OTHERS = 40


@check_arguments
def caa_probe(evidence: Evidence, value: ValueName) -> ProbedVector:
    """Add the lacking log-odds along the plain mean difference.

    Args:
        evidence: Training data with samples.
        value: The value to steer towards.

    Raises:
        InputError: The statistics hold no samples.
    """
    return _probed(evidence, value, "caa_probe", project=False)


@check_arguments
def caa_projected_probe(evidence: Evidence, value: ValueName) -> ProbedVector:
    """Add the lacking log-odds along the projected mean difference.

    Projected: orthogonal to the other values' directions, with the norm restored.

    Args:
        evidence: Training data with samples.
        value: The value to steer towards.

    Raises:
        InputError: The statistics hold no samples.
    """
    return _probed(evidence, value, "caa_projected_probe", project=True)


def _probed(evidence: Evidence, value: str, name: str, *, project: bool) -> ProbedVector:
    stats = evidence.stats
    need_samples(evidence, name)  # first, so that its message names the method
    rows, label, _ = probe_rows(stats, value, others=OTHERS, seed=evidence.seed)
    layers = spread_layers(stats.n_layers, evidence.layers)
    pooling: Weighted = "last" if stats.pooling == "last" else "mean"
    resid = residuals(evidence, rows, layers, pooling, name)
    plain = stats.direction(value)
    directions = {layer: projected_direction(stats, value, layer) if project else plain[layer] for layer in layers}
    return fit_vector_probes(resid, label, directions, name=name, dose=2.0, scope=evidence.token_scope)
