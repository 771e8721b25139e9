"""CAA: contrastive activation addition, the mean-difference steering vector (METHODS, baselines).

`v = mean(resid | +) - mean(resid | -)` at one layer or several, added times the dose. Our residuals are pooled over the
answer's tokens like the neurons' activations, so that all methods see the same evidence (the original takes the last
token of a one-letter answer, which our free-text pairs do not have).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import qr

from neva_tl.activations import ActivationStats
from neva_tl.editing import AddVector
from neva_tl.methods.evidence import Evidence


def caa(evidence: Evidence, value: str) -> AddVector:
    """The plain mean-difference vector."""
    return _vectors(evidence, value, project=False)


def caa_projected(evidence: Evidence, value: str) -> AddVector:
    """The same with the other values' directions at that layer projected out (QR) and the norm restored."""
    return _vectors(evidence, value, project=True)


def _vectors(evidence: Evidence, value: str, *, project: bool) -> AddVector:
    stats = evidence.stats
    layers = evidence.layers if evidence.layers is not None else default_layers(stats.n_layers)
    directions = stats.direction(value)
    vectors = {}
    for layer in layers:
        vectors[layer] = projected_direction(stats, value, layer) if project else directions[layer]
    # several layers share the dose: the sum of what is added is one vector's worth
    return AddVector(
        {layer: (v / len(layers)).astype(np.float32) for layer, v in vectors.items()},
        name="caa_projected" if project else "caa",
        scope=evidence.scope,
    )


def default_layers(n_layers: int) -> tuple[int, ...]:
    """The layer at 60 % of the depth (used where none was chosen on validation prompts; ours)."""
    return (min(n_layers - 1, round(0.6 * (n_layers - 1))),)


def projected_direction(stats: ActivationStats, value: str, layer: int) -> Float[np.ndarray, " d"]:
    """A value's mean difference at a layer with the other values' projected out, norm restored."""
    others = [stats.direction(v)[layer] for v in stats.values if v != value]
    vector = stats.direction(value)[layer]
    return project_out(vector, np.stack(others, axis=1)) if others else vector


def project_out(vector: Float[np.ndarray, " d"], others: Float[np.ndarray, "d m"]) -> Float[np.ndarray, " d"]:
    """The part of a vector orthogonal to the others' span, scaled back to the vector's norm (zero if nothing is left)."""
    if not others.shape[1]:
        return vector
    # pivoted: without it, dropping a dependent column's basis vector may drop a later column's part along it
    basis, triangle, _ = qr(others, mode="economic", pivoting=True)
    basis = basis[:, np.abs(np.diag(triangle)) > 1e-8 * max(np.abs(triangle).max(), 1e-30)]
    rest = vector - basis @ (basis.T @ vector)
    norm = np.linalg.norm(rest)
    return rest * (np.linalg.norm(vector) / norm) if norm > 1e-8 * np.linalg.norm(vector) else np.zeros_like(vector)
