"""The layered picture: positions follow the layers, strengths are relative to the largest of a kind."""

from __future__ import annotations

import pytest

from helpers import fake_graph as fake
from neva_tl.circuits import CircuitGraph
from neva_tl.circuits.drawing.draw_layered import ends, layered_figure, layered_svg
from neva_tl.circuits.drawing.layered import NARROW, WIDE, edge_effect, layered
from neva_tl.core.values import VALUES


@pytest.fixture(scope="module")
def graph() -> CircuitGraph:
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
        strengths = {(tie.source, tie.target): tie.strength for tie in plan.ties if tie.kind == kind}
        assert strengths.keys() == sizes.keys()
        assert all(strengths[key] == pytest.approx(size / max(sizes.values())) for key, size in sizes.items())
    assert 0 < len(plan.shown) <= 60
    assert sum(tie.strength >= plan.cut - 0.01 for tie in plan.ties) > 60
    assert len(layered(graph.graph, most_edges=10_000).shown) == len(plan.ties)
    assert edge_effect({"total": 0.3, "measured": 1.0}) == 0.3
    assert edge_effect({"measured": 0.5}) == -0.5  # ablation takes away what the source did
    assert edge_effect({"attributed": float("nan")}) is None and edge_effect({}) is None


def test_figure_has_every_label(graph: CircuitGraph) -> None:
    plan = layered(graph.graph)
    texts = {text.get_text() for text in layered_figure(plan).axes[0].texts}
    assert {spot.label for spot in plan.spots} <= texts
    assert layered_svg(plan).count("<path") == len(plan.shown)
