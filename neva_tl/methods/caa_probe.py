"""CAA behind the probe gate of `neva`: the vector's cells of the factor {neurons, vectors} x {no gate, same probe gate}.

Per layer a probe on the residual stream, fitted by the recipe of `fit_context` (same texts, same pooling, C = .05, balanced),
says how many log-odds a token lacks; the need is met along the layer's mean difference, plain or with the other values'
directions projected out. Several layers, as in METHODS' table (`spread_layers`); each meets its own whole need on what the
earlier ones left. (Ours.)
"""

from __future__ import annotations

from neva_tl.activations.pooling import Weighted
from neva_tl.editing import ProbedVector, fit_vector_probes
from neva_tl.methods.caa import projected_direction
from neva_tl.methods.caa_layers import spread_layers
from neva_tl.methods.evidence import Evidence
from neva_tl.methods.texts import kept_samples, residuals
from neva_tl.selection.contrast import probe_rows

#: + prompts of each other value among the negatives, as `fit_context` has it.
OTHERS = 40


def caa_probe(evidence: Evidence, value: str) -> ProbedVector:
    """Need met along the plain mean difference."""
    return _probed(evidence, value, "caa_probe", project=False)


def caa_projected_probe(evidence: Evidence, value: str) -> ProbedVector:
    """Need met along the mean difference with the other values' directions projected out."""
    return _probed(evidence, value, "caa_projected_probe", project=True)


def _probed(evidence: Evidence, value: str, name: str, *, project: bool) -> ProbedVector:
    stats = evidence.stats
    kept_samples(evidence, name)  # refused before its rows are asked for
    rows, label, _ = probe_rows(stats, value, others=OTHERS, seed=evidence.seed)
    layers = spread_layers(stats.n_layers, evidence.layers)
    pooling: Weighted = "last" if stats.pooling == "last" else "mean"
    resid = residuals(evidence, rows, layers, pooling, name)
    plain = stats.direction(value)
    directions = {layer: projected_direction(stats, value, layer) if project else plain[layer] for layer in layers}
    return fit_vector_probes(resid, label, directions, name=name, dose=2.0, scope=evidence.scope)
