"""The layered picture and its page: places follow the layers, numbers are the graph's, whatever is missing or broken."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType
from typing import Any

import networkx as nx
import numpy as np
import pytest

from neva_tl.circuits import CircuitGraph
from neva_tl.circuits.drawing.draw_layered import ends, layered_figure, layered_svg
from neva_tl.circuits.drawing.layered import NARROW, WIDE, edge_effect, layered
from neva_tl.circuits.drawing.page import edge_table, figure_data, page
from neva_tl.circuits.drawing.text import signed, visible
from neva_tl.circuits.drawing.wording import curve_svg, points, sentence
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.models.tiny import load_module
from neva_tl.plots.pages import json_text


@pytest.fixture(scope="module")
def fake() -> ModuleType:
    return load_module(Path(__file__).with_name("fake_graph.py"))


@pytest.fixture(scope="module")
def graph(fake: ModuleType) -> CircuitGraph:
    return fake.graph()


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_edge_runs_upwards_and_nothing_overlaps(graph: CircuitGraph, width: float) -> None:
    plan = layered(graph.graph, width=width)
    spots = {spot.id: spot for spot in plan.spots}
    assert all(ends(plan, t)[3] < ends(plan, t)[1] for t in plan.ties if {t.source, t.target} <= set(spots))
    for spot in plan.spots:
        assert spot.x - spot.span >= 0 and spot.x + spot.span <= width and 0 < spot.y < plan.height
        for other in plan.spots:
            if other.id != spot.id and other.y == spot.y:
                assert abs(spot.x - other.x) >= 13
    rows: dict[str, list[float]] = {}
    for spot in plan.spots:
        rows.setdefault(spot.kind, []).append(spot.y)
    assert max(rows["value"]) < min(rows["token"]) and max(rows["token"]) < min(rows["neuron"])
    assert max(rows["neuron"] + rows["head"]) < min(rows["input"])
    for layer in range(6):
        heads = [spots[n].y for n in graph.nodes("head") if graph.graph.nodes[n]["layer"] == layer]
        neurons = [spots[n].y for n in graph.nodes("neuron") if graph.graph.nodes[n]["layer"] == layer]
        assert not heads or not neurons or max(neurons) < min(heads)
    values = [spot for spot in plan.spots if spot.kind == "value"]
    assert [spot.label for spot in sorted(values, key=lambda spot: spot.x)] == list(VALUES)
    for spot in plan.spots:
        if spot.kind == "token":
            owner = spots[f"value:{graph.graph.nodes[spot.id]['value']}"]
            assert abs(spot.x - owner.x) <= owner.span + 1
    assert plan.hidden + sum(spot.kind == "token" for spot in plan.spots) == len(graph.nodes("token"))


def test_strength_is_relative_to_the_largest_of_a_kind_and_the_cut_is_the_smallest_that_fits(
    graph: CircuitGraph,
) -> None:
    plan = layered(graph.graph, most_edges=60)
    for kind in ("attributed", "value", "feeds", "reads"):
        sizes = {(a, b): abs(e["attributed"]) for a, b, e in graph.graph.edges(data=True) if e["kind"] == kind}
        mine = {(tie.source, tie.target): tie.strength for tie in plan.ties if tie.kind == kind}
        assert mine.keys() == sizes.keys()
        assert all(mine[key] == pytest.approx(size / max(sizes.values())) for key, size in sizes.items())
    assert 0 < len(plan.shown) <= 60
    assert sum(tie.strength >= plan.cut - 0.01 for tie in plan.ties) > 60
    assert len(layered(graph.graph, most_edges=10_000).shown) == len(plan.ties)
    assert edge_effect({"total": 0.3, "measured": 1.0}) == 0.3
    assert edge_effect({"measured": 0.5}) == -0.5  # ablation takes away what the source did
    assert edge_effect({"attributed": float("nan")}) is None and edge_effect({}) is None


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
        held = graph.graph.nodes[name]
        if held["kind"] in ("token", "input"):
            assert node["name"] == held["text"]
        if held["kind"] == "neuron":
            assert [pair[0] for pair in node["writes"]] == [pair[0] for pair in json.loads(held["writes"])]
            assert node["selected"] is held["selected"] and ("g" in node) is ("g" in held)
            assert node["contexts"][0]["tokens"] == json.loads(held["contexts"])[0]["tokens"]


def test_page_is_whole_quiet_and_escaped(fake: ModuleType, graph: CircuitGraph, tmp_path: Path) -> None:
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
    made = CircuitGraph(graph, {"values": ["kindness"], "faithfulness": {"f": None}, "curve": [{"size": "x"}, 3]})
    text = made.save(tmp_path / "x.html").read_text(encoding="utf-8")
    shown = text[text.index("<body>") : text.rindex("<script>")]
    assert "Circuit of kindness" in shown and not re.search(r"\b(nan|inf|None)\b", shown)
    empty: Any = nx.DiGraph()
    empty.add_node("value:power", kind="value", value="power")
    with pytest.raises(InputError, match="nothing to draw"):
        page(CircuitGraph(empty, {}))
    graph.nodes["neuron:L0.1"]["layer"] = None
    with pytest.raises(InputError, match="no whole number 'layer'"):
        page(made)


def test_figure_has_every_label(graph: CircuitGraph) -> None:
    plan = layered(graph.graph)
    texts = {text.get_text() for text in layered_figure(plan).axes[0].texts}
    assert {spot.label for spot in plan.spots} <= texts
    assert layered_svg(plan).count("<path") == len(plan.shown)


def test_sentence_and_curve() -> None:
    meta = {"size": 30, "faithfulness": {"f": 0.8, "random_mean": 0.02, "random_max": -0.1, "n_random": 20}}
    assert sentence(meta) == (
        "Faithfulness: 30 nodes alone keep F = 0.80 of the model's effect (1: all of it, 0: none); 20 random circuits of "
        "the same size keep 0.02 on average, at most −0.10."
    )
    assert sentence({}) == sentence({"faithfulness": {"f": float("nan")}}) == sentence({"faithfulness": 3}) == ""
    curve = [{"size": 4, "f": 0.5, "random": 0.1}, {"size": 1, "f": 0.2}, {"size": 9, "f": "?"}]
    assert points({"curve": curve}) == [(1.0, 0.2, None), (4.0, 0.5, 0.1)]
    root = ET.fromstring(curve_svg({"curve": curve}))
    marks = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in root.iter("circle")]
    # a square-root axis: size 1 lies half as far as size 4
    assert (marks[0][0] - 30) * 2 == pytest.approx(marks[1][0] - 30, abs=0.2) and marks[0][1] > marks[1][1]
    assert curve_svg({"curve": curve[:1]}) == ""


def test_signed_numbers() -> None:
    assert [signed(x) for x in (0.41249, -1.5, 123.4, 0, -0.0000123, 12345.6, None, float("nan"), True)] == [
        "+0.412", "−1.50", "+123", "0", "−1.23e−5", "+1.23e4", "–", "–", "–"
    ]  # fmt: skip
    assert visible(" a\x07\u202e" + "b" * 30, 12) == "·a\\x07\\x202…"


def test_json_text_is_inert() -> None:
    hostile = {"a</script>": ["<!--", "\u2028", "\ud800", np.float64(1.5), math.nan, {"b": (1, True, None)}]}
    text = str(json_text(hostile))
    assert text.isascii() and not set("<>&") & set(text)
    assert json.loads(text) == {"a</script>": ["<!--", "\u2028", "\ud800", 1.5, None, {"b": [1, True, None]}]}
