"""The circuit's page: its numbers are the graph's, whatever is missing or broken."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from helpers import fake_graph as fake
from neva_tl.circuits import CircuitGraph
from neva_tl.circuits.drawing.layered import layered
from neva_tl.circuits.drawing.page import edge_table, figure_data, page
from neva_tl.core.errors import InputError
from neva_tl.core.formatting import signed
from neva_tl.plots.pages import json_text


@pytest.fixture(scope="module")
def graph() -> CircuitGraph:
    return fake.graph()


def test_the_data_block_holds_the_graph(graph: CircuitGraph) -> None:
    data = json.loads(json_text(figure_data(graph)))
    names = list(graph.graph.nodes)
    for source, target, kind, attributed, total, measured, low, high in data["edges"]:
        edge = graph.graph.edges[names[source], names[target]]
        assert edge["kind"] == kind
        got = {"attributed": attributed, "total": total, "measured": measured, "lo": low, "hi": high}
        for name, number in got.items():
            assert number is None if name not in edge else number == pytest.approx(edge[name], rel=1e-4)
    assert len(data["edges"]) == graph.graph.number_of_edges()
    for name, node in zip(names, data["nodes"], strict=True):
        data_of_node = graph.graph.nodes[name]
        if data_of_node["kind"] in ("token", "input"):
            assert node["name"] == data_of_node["text"]
        if data_of_node["kind"] == "neuron":
            assert [pair[0] for pair in node["writes"]] == [pair[0] for pair in json.loads(data_of_node["writes"])]
            assert node["selected"] is data_of_node["selected"] and ("g" in node) is ("g" in data_of_node)
            assert node["contexts"][0]["tokens"] == json.loads(data_of_node["contexts"])[0]["tokens"]


def test_page_is_whole_quiet_and_escaped(graph: CircuitGraph, tmp_path: Path) -> None:
    text = graph.save(tmp_path / "x.html").read_text(encoding="utf-8")
    assert text.count("<script") == 2 and text.count("</script>") == 2
    assert not re.search(r"<img|https?://|url\(|@import|\u2028", text)
    assert "default-src 'none'" in text and "F = 0.86 [0.80, 0.91]" in text and "nv-curve" in text
    assert "final norm frozen" in text and "strongest 250 of" in text
    for name in ("x.svg", "x.pdf", "x.png"):
        assert graph.save(tmp_path / name).stat().st_size > 4000
    assert len(ET.parse(tmp_path / "x.svg").getroot()) > 150
    assert graph._repr_html_().count("nv-data") >= 1
    minimal = fake.graph(heads=0)
    assert 'nv-curve"' not in page(minimal) and "Faithfulness:" not in page(minimal)
    assert "value tokens" in minimal.svg() and "value tokens" not in graph.svg()  # the table's picture without heads


def test_edge_table_says_the_numbers(graph: CircuitGraph) -> None:
    table = edge_table(graph, most=40)
    assert [column["label"] for column in table["columns"]] == [
        "source",
        "target",
        "kind",
        "attributed",
        "total",
        "measured",
    ]
    assert len(table["rows"]) == 40 and table["count"] == len(layered(graph.graph).ties)
    ids = {f"L{d['layer']}.{d['neuron']}": n for n, d in graph.graph.nodes(data=True) if d["kind"] == "neuron"}
    checked = 0
    for row in table["rows"]:
        if row[2]["text"] == "value" and row[0]["text"] in ids:
            edge = graph.graph.edges[ids[row[0]["text"]], f"value:{row[1]['text']}"]
            assert float(row[3]["sort"]) == edge["attributed"] and row[3]["text"] == signed(edge["attributed"])
            assert row[5]["text"] == f"{signed(edge['measured'])} [{signed(edge['lo'])}, {signed(edge['hi'])}]"
            checked += 1
    assert checked


def test_broken_and_foreign_parts_do_not_stop_the_page(tmp_path: Path) -> None:
    graph: Any = nx.DiGraph()
    graph.add_node(
        "neuron:L0.1", kind="neuron", layer=0, neuron=1, value="kindness", values="kindness", writes="{", contexts="[1]"
    )
    graph.add_node("token:1", kind="token", token=1, text="a\ud800b", value="kindness", word="x", multi=False)
    graph.add_node("what", kind="else")
    graph.add_edge("neuron:L0.1", "token:1", kind="attributed", attributed=math.inf)
    graph.add_edge("neuron:L0.1", "what", kind="unheard")
    circuit = CircuitGraph(graph, {"values": ["kindness"], "faithfulness": {"f": None}, "curve": [{"size": "x"}, 3]})
    text = circuit.save(tmp_path / "x.html").read_text(encoding="utf-8")
    body = text[text.index("<body>") : text.rindex("<script>")]
    assert "Circuit of kindness" in body and not re.search(r"\b(nan|inf|None)\b", body)
    empty: Any = nx.DiGraph()
    empty.add_node("value:power", kind="value", value="power")
    with pytest.raises(InputError, match="nothing to draw"):
        page(CircuitGraph(empty, {}))
    graph.nodes["neuron:L0.1"]["layer"] = None
    with pytest.raises(InputError, match="no integer 'layer'"):
        page(circuit)
