"""Circuits on a real small model: edges equal their definitions, files read back, hostile text stays text."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch

from neva_tl import models
from neva_tl.attribution import direct_logits, frozen_scale, value_tokens
from neva_tl.circuits import CircuitGraph, circuit
from neva_tl.circuits.drawing.draw import circuit_figure, circuit_svg, layout
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.models import inference
from neva_tl.prompts.example import Example

WORDS = {
    "benevolence": ["help", "kind", "friend", "share", "love"],
    "power": ["king", "boss", "rich", "strong", "rule"],
    "security": ["safe", "lock", "home"],
}
EXAMPLES = [Example("Once upon a time", "a kind girl wanted to help."), Example("", "The king was very rich.")]
HOSTILE = '</script><img src=x onerror="alert(1)">&\'$\\alpha$ \u202e\x07'


def neuron_set(model: Any, value: str = "benevolence") -> NeuronSet:
    facts = models.info(model)
    df = pd.DataFrame(
        {
            "layer": [5, 3, 3, 0],
            "neuron": [7, 100, 12, 55],
            "mean_plus": [1.0, 0.4, -0.2, 0.3],
            "mean_minus": [0.2, 0.9, 0.1, 0.0],
        }
    ).assign(sd=1.0, score=1.0, g=[1.0, -0.8, 0.5, np.nan])
    return NeuronSet(value, "test", df, facts.n_layers, facts.d_mlp)


@pytest.fixture(scope="module")
def graph(stories3m: Any) -> CircuitGraph:
    return circuit(stories3m, neuron_set(stories3m), values=list(WORDS), words=WORDS, top_tokens=4, examples=EXAMPLES)


def test_attributed_edges_are_direct_logits_and_the_largest_are_kept(stories3m: Any, graph: CircuitGraph) -> None:
    tokens = value_tokens(stories3m, list(WORDS), WORDS)
    scale = frozen_scale(stories3m, EXAMPLES)
    neurons = neuron_set(stories3m)
    effects = direct_logits(stories3m, neurons, tokens["token"].tolist(), scale=scale).numpy()
    table = graph.table()
    assert len(table) == len(neurons) * 4
    assert list(table.columns) == ["value", "layer", "neuron", "token", "token_value", "attribution", "measured"]
    for index, row in neurons.df.iterrows():
        rows = table[(table["layer"] == row["layer"]) & (table["neuron"] == row["neuron"])]
        largest = np.sort(np.abs(effects[index]))[::-1][:4]
        assert np.allclose(np.sort(rows["attribution"].abs())[::-1], largest, rtol=1e-4)
    wide = graph.value_table().pivot(index=["layer", "neuron"], columns="to_value", values="attribution")
    mean = effects[0][(tokens["value"] == "power").to_numpy()].mean()
    assert wide.loc[(5, 7), "power"] == pytest.approx(mean, rel=1e-4)


def test_measured_edges_are_what_a_hand_made_hook_measures(stories3m: Any, graph: CircuitGraph) -> None:
    tokens = value_tokens(stories3m, list(WORDS), WORDS)
    ids = tokens.loc[tokens["value"] == "power", "token"].tolist()

    def log_odds(edited: bool) -> float:
        out = []
        for example in EXAMPLES:
            batch = inference.encode(stories3m, [example])
            handle = None
            if edited:

                def ablate(x: torch.Tensor, hook: Any = None) -> torch.Tensor:
                    x = x.clone()
                    x[..., 100] = (0.4 + 0.9) / 2
                    return x

                handle = models.add_hook(stories3m, models.hook_name(stories3m, 3, "post"), ablate)
            logits = inference.forward_batch(stories3m, batch)
            if handle is not None:
                handle.remove()
            assert logits is not None
            p = logits.double().softmax(-1)[..., ids].sum(-1)
            out.append(float(torch.log(p / (1 - p))[batch.answer].mean()))
        return float(np.mean(out))

    wide = graph.value_table().pivot(index=["layer", "neuron"], columns="to_value", values="measured")
    assert wide.loc[(3, 100), "power"] == pytest.approx(log_odds(True) - log_odds(False), abs=1e-4)


def test_without_examples_nothing_is_measured(stories3m: Any) -> None:
    plain = circuit(stories3m, neuron_set(stories3m), values=["power", "security"], words=WORDS)
    assert plain.table()["measured"].isna().all()
    assert plain.meta["n_examples"] == 0 and "scale 1" in plain.meta["norm"]


def test_a_neuron_of_two_values_belongs_to_both(stories3m: Any) -> None:
    both = [neuron_set(stories3m), neuron_set(stories3m, "power")]
    graph = circuit(stories3m, both, values=list(WORDS), words=WORDS, top_tokens=2)
    table = graph.table()
    assert set(table["value"]) == {"benevolence", "power"}
    assert len(table) == 2 * 4 * 2 and len(graph.nodes("neuron")) == 4
    assert len(layout(table).links) == 8  # each edge drawn once


def test_files(graph: CircuitGraph, tmp_path: Path) -> None:
    back = CircuitGraph.load(graph.save(tmp_path / "x.json"))
    pd.testing.assert_frame_equal(back.table(), graph.table())
    read = nx.read_graphml(graph.save(tmp_path / "x.graphml"))
    assert read.number_of_edges() == graph.graph.number_of_edges()
    assert ET.parse(graph.save(tmp_path / "x.svg")).getroot().tag.endswith("svg")
    assert graph.save(tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    assert graph.save(tmp_path / "deep" / "x.png").read_bytes().startswith(b"\x89PNG")
    page = graph.save(tmp_path / "x.html").read_text()
    assert "<svg" in page and "http" not in page.replace("http-equiv", "")
    assert not list(tmp_path.glob("*.tmp*"))
    with pytest.raises(InputError, match="use one of"):
        graph.save(tmp_path / "x.gif")
    (tmp_path / "bad.json").write_text(json.dumps({"kind": "else"}))
    with pytest.raises(InputError, match="not a circuit"):
        CircuitGraph.load(tmp_path / "bad.json")
    assert "4 neurons" in repr(graph) and "<svg" in graph._repr_html_()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.scripts: list[str] = []
        self.handlers: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self._inside = tag
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
            self._inside = ""


def test_hostile_tokens_stay_text(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"value": "power", "layer": [0, 1], "neuron": [1, 2], "token": [HOSTILE, " king"], "token_value": "power",
         "attribution": [1.0, -0.5]}
    )  # fmt: skip
    svg = circuit_svg(table)
    parser = _Tags()
    parser.feed(svg)
    assert parser.seen <= {"svg", "path", "title", "g", "circle", "rect", "text"}
    ET.fromstring(circuit_svg(table, standalone=True))
    circuit_figure(table).savefig(tmp_path / "x.png")
    graph: Any = nx.DiGraph()
    graph.add_node("neuron:L0.1", kind="neuron", layer=0, neuron=1, value="power", values="power")
    graph.add_node("token:1", kind="token", token=1, text=HOSTILE, value="power", word="x", multi=False)
    graph.add_edge("neuron:L0.1", "token:1", kind="attributed", attributed=1.0)
    circuit_graph = CircuitGraph(graph, {"model": HOSTILE, "values": ["power"]})
    for name in ("x.graphml", "x.json", "x.html"):
        circuit_graph.save(tmp_path / name)
    nx.read_graphml(tmp_path / "x.graphml")
    page = _Tags()
    page.feed((tmp_path / "x.html").read_text())
    assert "img" not in page.seen and not page.handlers
    block, script = page.scripts  # the data, and our own script that knows no token
    assert [node["name"] for node in json.loads(block)["nodes"]] == ["L0.1", HOSTILE, "power"]
    assert "<" not in block and "alert(1)" not in script


def test_layout_thins_and_says_so() -> None:
    rng = np.random.default_rng(0)
    rows = [
        ("power", layer, k, f"t{t}", "power", rng.standard_normal())
        for layer in range(6)
        for k in range(8)
        for t in range(6)
    ]
    table = pd.DataFrame(rows, columns=["value", "layer", "neuron", "token", "token_value", "attribution"])
    plan = layout(table, most_neurons=10, most_links=30)
    assert len(plan.neurons) == 10 and len(plan.links) == 30
    assert "30 of 288 edges, 10 of 48 neurons" in plan.note
    assert {mark.key for mark in plan.neurons} == {link.source.key for link in plan.links}
    heights = [y for _, y in plan.layers]
    assert heights == sorted(heights)  # upper layers are drawn above lower ones
    with pytest.raises(InputError, match="no edges for security"):
        layout(table, value="security")


def test_empty_input_is_refused(stories3m: Any) -> None:
    neurons = neuron_set(stories3m)
    with pytest.raises(InputError, match="at least one neuron"):
        circuit(stories3m, neurons.head(0), words=WORDS, values=list(WORDS))
    with pytest.raises(InputError, match="top_tokens"):
        circuit(stories3m, neurons, words=WORDS, values=list(WORDS), top_tokens=0)
