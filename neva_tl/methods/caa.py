"""CAA: contrastive activation addition, the mean-difference steering vector.

`v = mean(resid | +) - mean(resid | -)` at one layer or several, added times the dose. Residuals are pooled over the answer's
tokens, as the neurons' activations are, so that all methods read the same evidence. The original reads the last token of a
one-letter answer, which free-text pairs do not have.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import qr

from neva_tl.activations import ActivationStats
from neva_tl.core.arguments import check_arguments
from neva_tl.core.theories import ValueName
from neva_tl.editing import AddVector
from neva_tl.methods.evidence import Evidence


@check_arguments
def caa(evidence: Evidence, value: ValueName) -> AddVector:
    """Add the plain mean-difference vector.

    Args:
        evidence: Training data.
        value: The value to steer towards.
    """
    return _vectors(evidence, value, project=False)


@check_arguments
def caa_projected(evidence: Evidence, value: ValueName) -> AddVector:
    """Add the mean difference with the other values' directions projected out.

    The projection is by QR; the vector's norm is restored.

    Args:
        evidence: Training data.
        value: The value to steer towards.
    """
    return _vectors(evidence, value, project=True)


def _vectors(evidence: Evidence, value: str, *, project: bool) -> AddVector:
    stats = evidence.stats
    layers = evidence.layers if evidence.layers is not None else default_layers(stats.n_layers)
    directions = stats.direction(value)
    vectors = {}
    for layer in layers:
        vectors[layer] = projected_direction(stats, value, layer) if project else directions[layer]
    # several layers share the dose, so that the sum of the additions is one vector at dose 1
    return AddVector(
        {layer: (v / len(layers)).astype(np.float32) for layer, v in vectors.items()},
        name="caa_projected" if project else "caa",
        scope=evidence.token_scope,
    )


def default_layers(n_layers: int) -> tuple[int, ...]:
    """The layer at 60 % of the depth (ours), the default of vector methods.

    Args:
        n_layers: Number of layers of the model.
    """
    return (min(n_layers - 1, round(0.6 * (n_layers - 1))),)


def projected_direction(stats: ActivationStats, value: str, layer: int) -> Float[np.ndarray, " d"]:
    """A value's mean difference at a layer, without the other values' directions.

    The norm is restored.

    Args:
        stats: Statistics with residual means.
        value: The value.
        layer: The layer.
    """
    others = [stats.direction(v)[layer] for v in stats.values if v != value]
    vector = stats.direction(value)[layer]
    return project_out(vector, np.stack(others, axis=1)) if others else vector


def project_out(vector: Float[np.ndarray, " d"], others: Float[np.ndarray, "d m"]) -> Float[np.ndarray, " d"]:
    """The component of a vector orthogonal to other vectors, with the norm restored.

    Args:
        vector: The vector.
        others: Columns that span the subspace to remove.

    Returns:
        The rescaled component; zeros if the vector lies in the span.
    """
    if not others.shape[1]:
        return vector
    # pivoted: without pivoting, dropping a dependent column's basis vector may drop a later column's component along it
    basis, triangle, _ = qr(others, mode="economic", pivoting=True)
    basis = basis[:, np.abs(np.diag(triangle)) > 1e-8 * max(np.abs(triangle).max(), 1e-30)]
    rest = vector - basis @ (basis.T @ vector)
    norm = np.linalg.norm(rest)
    return rest * (np.linalg.norm(vector) / norm) if norm > 1e-8 * np.linalg.norm(vector) else np.zeros_like(vector)
