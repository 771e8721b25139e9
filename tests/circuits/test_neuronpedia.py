"""A circuit as an attribution graph: the fields that the viewers need, and the circuit's own counts and weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from neva_tl.circuits import CircuitGraph
from neva_tl.core.errors import InputError

#: The fields that circuit-tracer's models and Neuronpedia's schema require, with their types.
METADATA = {"slug": str, "scan": str, "prompt_tokens": list, "prompt": str, "transcoder_list": list}
QPARAMS = {"pinnedIds": list, "supernodes": list, "linkType": str, "clickedId": str, "sg_pos": str}
NODE = {
    "node_id": str,
    "feature": int,
    "layer": str,
    "ctx_idx": int,
    "feature_type": str,
    "jsNodeId": str,
    "clerp": str,
}
LINK = {"source": str, "target": str, "weight": float}


@pytest.fixture
def circuit() -> CircuitGraph:
    graph = nx.DiGraph()
    graph.add_node("input: the", kind="input", text=" the", token=7, count=3)
    graph.add_node("input: king", kind="input", text=" king", token=9, count=2)
    graph.add_node("head:L0.H3", kind="head", layer=0, head=3, share=-0.25)
    graph.add_node("neuron:L0.3", kind="neuron", layer=0, neuron=3, values="power", share=0.5)
    graph.add_node("neuron:L2.11", kind="neuron", layer=2, neuron=11, values="")
    graph.add_node("token:30", kind="token", token=30, text=' "rich', value="power")
    graph.add_node("value:power", kind="value", value="power")
    graph.add_edge("input: the", "head:L0.H3", kind="reads", attributed=0.125, measured=0.1)
    graph.add_edge("input: king", "neuron:L0.3", kind="feeds", attributed=-0.5, total=-0.5)
    graph.add_edge("head:L0.H3", "neuron:L2.11", kind="feeds", attributed=1 / 3)
    graph.add_edge("neuron:L0.3", "token:30", kind="attributed", attributed=2.0)
    graph.add_edge("neuron:L2.11", "value:power", kind="value", attributed=0.75, measured=0.5)
    graph.add_edge("token:30", "value:power", kind="belongs")
    return CircuitGraph(graph, {"model": "demo", "values": ["power"], "task": "write power's words"})


@pytest.fixture
def data(circuit: CircuitGraph, tmp_path: Path) -> dict[str, Any]:
    path = circuit.save(tmp_path / "Power of Kings.neuronpedia.json")
    out: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return out


def fits(thing: dict[str, Any], fields: dict[str, type]) -> bool:
    return all(type(thing.get(name)) is kind for name, kind in fields.items())


def test_has_the_fields_that_the_viewers_need(data: dict[str, Any]) -> None:
    assert set(data) == {"metadata", "qParams", "nodes", "links"}
    assert fits(data["metadata"], METADATA) and fits(data["qParams"], QPARAMS)
    assert all(fits(node, NODE) for node in data["nodes"]) and all(fits(link, LINK) for link in data["links"])
    assert data["metadata"]["slug"] == "power-of-kings" and data["metadata"]["scan"] == "demo"
    # the viewer splits the label of an output at its probability, and lays nodes in the columns of the prompt's tokens
    assert all("(p=" in node["clerp"] for node in data["nodes"] if node["feature_type"] == "logit")
    assert data["metadata"]["prompt_tokens"] == [" the", " king"]
    assert all(0 <= node["ctx_idx"] < 2 for node in data["nodes"])


def test_nodes_and_links_are_those_of_the_circuit(circuit: CircuitGraph, data: dict[str, Any]) -> None:
    ids = [node["node_id"] for node in data["nodes"]]
    assert len(ids) == len(set(ids)) == circuit.graph.number_of_nodes()
    # a neuron and a head of the same number are two nodes
    assert {"0_3_1", "0_1000003_1", "2_11_1", "E_7_0", "E_9_1", "3_0_1", "3_1_1"} == set(ids)
    links = {(link["source"], link["target"]): link["weight"] for link in data["links"]}
    assert links == {
        ("E_7_0", "0_1000003_1"): 0.125,
        ("E_9_1", "0_3_1"): -0.5,
        ("0_1000003_1", "2_11_1"): 0.333333,
        ("0_3_1", "3_1_1"): 2.0,
        ("2_11_1", "3_0_1"): 0.75,
    }


def test_the_plain_json_stays_what_it_was(circuit: CircuitGraph, tmp_path: Path) -> None:
    back = CircuitGraph.load(circuit.save(tmp_path / "power.json"))
    assert back.graph.number_of_edges() == circuit.graph.number_of_edges()
    with pytest.raises(InputError, match="not a circuit written by neva_tl"):
        CircuitGraph.load(circuit.save(tmp_path / "power.neuronpedia.json"))


def test_a_circuit_without_neurons_and_heads_is_refused(tmp_path: Path) -> None:
    graph = nx.DiGraph()
    graph.add_node("value:power", kind="value", value="power")
    with pytest.raises(InputError, match="no neurons and no heads"):
        CircuitGraph(graph).save(tmp_path / "x.neuronpedia.json")
    assert not list(tmp_path.iterdir())
