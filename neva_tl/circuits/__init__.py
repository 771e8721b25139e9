"""The graph that links value neurons to value tokens."""

from neva_tl.circuits.build import circuit
from neva_tl.circuits.graph import CircuitGraph
from neva_tl.circuits.measure import ablation_effects

__all__ = ["CircuitGraph", "ablation_effects", "circuit"]
