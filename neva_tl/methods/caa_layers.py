"""CAA spread over several layers, plain or projected.

Projected: each layer's direction is made orthogonal to the other values' directions.

Norm convention (ours): every layer adds its own mean difference divided by the number of layers, so that dose 1 adds one
vector in all, as at a single layer.
"""

from __future__ import annotations

from dataclasses import replace

from neva_tl.core.arguments import check_arguments
from neva_tl.core.theories import ValueName
from neva_tl.editing import AddVector
from neva_tl.methods.caa import caa, caa_projected, default_layers
from neva_tl.methods.evidence import Evidence

MOST_LAYERS = 10


@check_arguments
def caa_layers(evidence: Evidence, value: ValueName) -> AddVector:
    """Add the plain mean differences of neighbouring layers.

    Args:
        evidence: Training data.
        value: The value to steer towards.

    Example:
        >>> evidence = nv.baselines.Evidence(model, stats, {}, layers=(2,))
        >>> sorted(nv.baselines.caa_layers(evidence, "benevolence").vectors)
        [1, 2]
    """
    return replace(caa(_spread(evidence), value), name="caa_layers")


@check_arguments
def caa_layers_projected(evidence: Evidence, value: ValueName) -> AddVector:
    """Add the projected mean differences of neighbouring layers, norms restored.

    Args:
        evidence: Training data.
        value: The value to steer towards.

    Example:
        >>> evidence = nv.baselines.Evidence(model, stats, {}, layers=(2,))
        >>> sorted(nv.baselines.caa_layers_projected(evidence, "benevolence").vectors)
        [1, 2]
    """
    return replace(caa_projected(_spread(evidence), value), name="caa_layers_projected")


def spread_layers(n_layers: int, layers: tuple[int, ...] | None) -> tuple[int, ...]:
    """A third of the layers (2 to 10 of them, at most all) around a centre.

    Args:
        n_layers: Number of layers of the model.
        layers: One layer is the centre; several are returned as they are; None takes `default_layers` as the centre.
    """
    if layers is not None and len(layers) > 1:
        return tuple(sorted(layers))
    (centre,) = layers or default_layers(n_layers)
    count = min(n_layers, max(2, min(MOST_LAYERS, n_layers // 3)))
    first = min(max(0, centre - count // 2), n_layers - count)
    return tuple(range(first, first + count))


def _spread(evidence: Evidence) -> Evidence:
    return replace(evidence, layers=spread_layers(evidence.stats.n_layers, evidence.layers))
