"""CAA spread over several layers, plain or with the other values' directions projected out.

Norm convention (ours): every layer adds its own mean difference divided by the number of layers, so that dose 1 adds one
vector's worth in all, as at a single layer.
"""

from __future__ import annotations

from dataclasses import replace

from neva_tl.editing import AddVector
from neva_tl.methods.caa import caa, caa_projected, default_layers
from neva_tl.methods.evidence import Evidence

MOST_LAYERS = 10


def caa_layers(evidence: Evidence, value: str) -> AddVector:
    """The plain mean differences of neighbouring layers."""
    return replace(caa(_spread(evidence), value), name="caa_layers")


def caa_layers_projected(evidence: Evidence, value: str) -> AddVector:
    """The same with the other values' directions projected out at each layer, norms restored."""
    return replace(caa_projected(_spread(evidence), value), name="caa_layers_projected")


def spread_layers(n_layers: int, chosen: tuple[int, ...] | None) -> tuple[int, ...]:
    """A third of the layers (2 to 10 of them, as far as the model has) around the chosen one.

    Several chosen layers are taken as they are; where none was chosen it is `default_layers`.
    """
    if chosen is not None and len(chosen) > 1:
        return tuple(sorted(chosen))
    (centre,) = chosen or default_layers(n_layers)
    count = min(n_layers, max(2, min(MOST_LAYERS, n_layers // 3)))
    first = min(max(0, centre - count // 2), n_layers - count)
    return tuple(range(first, first + count))


def _spread(evidence: Evidence) -> Evidence:
    return replace(evidence, layers=spread_layers(evidence.stats.n_layers, evidence.layers))
