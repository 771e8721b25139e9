"""The graph that links input tokens, heads, value neurons and value tokens, and how much of a behaviour it carries."""

from neva_tl.circuits.build import circuit
from neva_tl.circuits.graph import CircuitGraph
from neva_tl.circuits.search.contexts import Context, top_contexts
from neva_tl.circuits.search.effects import Effects, circuit_effects
from neva_tl.circuits.search.faithfulness import Faithfulness, faithfulness
from neva_tl.circuits.search.gates import Means, mean_activations
from neva_tl.circuits.search.inputs import input_scores
from neva_tl.circuits.search.measure import ablation_effects
from neva_tl.circuits.search.nodes import Nodes
from neva_tl.circuits.search.search import SearchResult, find_circuit, find_circuits, gate_scores
from neva_tl.circuits.search.task import LEAD, ValueTask, value_task

__all__ = [
    "LEAD",
    "CircuitGraph",
    "Context",
    "Effects",
    "Faithfulness",
    "Means",
    "Nodes",
    "SearchResult",
    "ValueTask",
    "ablation_effects",
    "circuit",
    "circuit_effects",
    "faithfulness",
    "find_circuit",
    "find_circuits",
    "gate_scores",
    "input_scores",
    "mean_activations",
    "top_contexts",
    "value_task",
]
