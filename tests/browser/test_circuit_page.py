"""The circuit's page in a real browser: numbers on hover, panels on click, filters, phones, hostile text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import fake_graph as graphs
from neva_tl.circuits import CircuitGraph
from neva_tl.circuits.drawing.layered import layered
from neva_tl.circuits.drawing.page import fragment
from neva_tl.core.formatting import signed

pytestmark = pytest.mark.browser
TEXT = ".nv-circuit p, .nv-circuit li, .nv-circuit label, .nv-count, .nv-draw text, .nv-panel *, h1, h2, dt, dd, td, th button"


@pytest.fixture(scope="module")
def graph() -> CircuitGraph:
    return graphs.graph()


@pytest.fixture(scope="module")
def path(graph: CircuitGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graph.save(tmp_path_factory.mktemp("page") / "circuit.html")


def node(page: Any, graph: CircuitGraph, name: str) -> Any:
    return page.locator(f'.nv-node[data-node="{list(graph.graph.nodes).index(name)}"]')


def panel_text(page: Any, selector: str) -> list[str]:
    return page.eval_on_selector_all(selector, "found => found.map(e => e.textContent)")


def best(graph: CircuitGraph) -> str:
    """The selected neuron with the most numbers."""
    return next(n for n in graph.nodes("neuron") if graph.graph.nodes[n]["selected"])


def test_it_draws_what_the_plan_says(
    visit: Any, path: Path, graph: CircuitGraph, palette: Callable[[Any], int]
) -> None:
    page = visit(path)
    plan = layered(graph.graph)
    assert page.locator(".nv-node").count() == len(plan.spots)
    assert page.locator(".nv-edge").count() == len(plan.shown)
    assert page.locator(".nv-count").inner_text() == f"{len(plan.shown)} of {len(plan.ties)} edges"
    assert page.locator(".nv-edge.nv-up").count() == sum(tie.effect > 0 for tie in plan.shown)
    assert palette(page.locator(".nv-draw svg")) > 50 and palette(page.locator(".nv-curve")) > 5
    assert "F = 0.86 [0.80, 0.91]" in page.locator(".nv-about").inner_text()


def test_hover_on_an_edge_shows_its_numbers(visit: Any, path: Path, graph: CircuitGraph) -> None:
    page = visit(path)
    names, edges = list(graph.graph.nodes), list(graph.graph.edges(data=True))
    # points of edges that no other edge or node covers
    spots = page.evaluate(
        """() => [...document.querySelectorAll(".nv-hit")].map((hit) => {
            for (let share = .1; share < 1; share += .05) {
              const at = hit.getPointAtLength(hit.getTotalLength() * share).matrixTransform(hit.getScreenCTM());
              const seen = at.y > 0 && at.y < innerHeight && document.elementFromPoint(at.x, at.y) === hit;
              if (seen) return [+hit.dataset.edge, at.x, at.y];
            }
            return null;
        }).filter(Boolean)"""
    )
    kinds = set()
    assert len(spots) > 20
    for index, x, y in spots[::3]:
        source, target, edge = edges[index]
        page.mouse.move(x, y)
        text = page.locator(".nv-tip").inner_text()
        assert page.locator(".nv-tip").is_visible()
        first = text.splitlines()[0]
        for end in (source, target):
            data = graph.graph.nodes[end]
            assert (data["text"].strip()[:8] if "text" in data else end.split(":")[1]) in first
        assert f"attributed {signed(edge['attributed'])}" in text
        if "total" in edge:
            assert f"total {signed(edge['total'])}" in text
        if "measured" in edge:
            interval = f"[{signed(edge['lo'])}, {signed(edge['hi'])}]"
            assert f"{signed(edge['measured'])} {interval}" in text.replace("\n", " ")
        lit = page.eval_on_selector_all(".nv-node.nv-on", "found => found.map(e => +e.dataset.node)")
        assert {names[i] for i in lit} == {source, target}
        kinds.add(edge["kind"])
    assert kinds >= {"attributed", "value", "feeds"}
    page.mouse.move(2, 2)
    assert page.locator(".nv-tip").is_hidden() and page.locator("svg.nv-focus").count() == 0


def test_hover_on_a_node_lights_its_neighbourhood(visit: Any, path: Path, graph: CircuitGraph) -> None:
    page = visit(path)
    name = best(graph)
    node(page, graph, name).locator("circle").hover()
    drawn = layered(graph.graph).shown
    near = {name} | {t.target for t in drawn if t.source == name} | {t.source for t in drawn if t.target == name}
    names = list(graph.graph.nodes)
    lit = page.eval_on_selector_all(".nv-node.nv-on", "found => found.map(e => +e.dataset.node)")
    assert {names[i] for i in lit} == near
    assert f"g {graph.graph.nodes[name]['g']:.3f}" in page.locator(".nv-tip").inner_text()


def test_click_opens_the_neurons_numbers_and_escape_closes(visit: Any, path: Path, graph: CircuitGraph) -> None:
    page = visit(path)
    name = best(graph)
    data = graph.graph.nodes[name]
    node(page, graph, name).locator("circle").click()
    panel = page.locator(".nv-panel")
    assert name.split(":")[1] in panel.locator("h4").inner_text()
    facts = dict(zip(panel.locator("dt").all_inner_texts(), panel.locator("dd").all_inner_texts(), strict=True))
    assert facts["effect size g"] == f"{data['g']:.3f} [{data['lo']:.3f}, {data['hi']:.3f}]".replace("-", "−")
    assert facts["q (FDR)"] == "3.0e−4" and facts["selected for"] == "benevolence"
    assert facts["share of the effect"] == f"{data['share']:.3f}".replace("-", "−")
    moved = panel.locator("h5", has_text="Values it moves").locator("+ table tbody tr").all_inner_texts()
    edges = {n.split(":")[1]: e for _, n, e in graph.graph.out_edges(name, data=True) if e["kind"] == "value"}
    assert len(moved) == len(edges) == 10
    sizes = []
    for row in moved:
        value, direct, measured, *_ = row.split()
        edge = edges[value]
        assert direct == signed(edge["attributed"]) and measured.startswith(signed(edge["measured"]))
        sizes.append(abs(edge["attributed"]))
    assert sizes == sorted(sizes, reverse=True)
    fed = panel.locator("h5", has_text="What feeds it").locator("+ table tbody tr").first.inner_text()
    strongest = max((e for *_, e in graph.graph.in_edges(name, data=True)), key=lambda e: abs(e["attributed"]))
    assert signed(strongest["attributed"]) in fed
    peak = panel.locator(".nv-context").first.locator(".nv-peak")
    context = json.loads(data["contexts"])[0]
    assert peak.evaluate("e => e.textContent") == context["tokens"][context["at"]]
    page.keyboard.press("Escape")
    assert panel.is_hidden() and page.locator(".nv-about").is_visible() and page.locator(".nv-picked").count() == 0
    node(page, graph, name).locator("circle").click()
    page.locator(".nv-draw svg").click(position={"x": 3, "y": 3})
    assert panel.is_hidden()


@pytest.mark.parametrize("kind", ["head", "input", "token", "value"])
def test_every_kind_of_node_opens_by_keyboard(visit: Any, path: Path, graph: CircuitGraph, kind: str) -> None:
    page = visit(path)
    name = graph.nodes(kind)[0] if kind != "value" else "value:benevolence"
    node(page, graph, name).focus()
    page.keyboard.press("Enter")
    rows = page.locator(".nv-panel tbody tr")
    assert rows.count() > 0
    ends = list(graph.graph.in_edges(name, data=True)) + list(graph.graph.out_edges(name, data=True))
    numbers = [signed(e["attributed"]) for *_, e in ends if "attributed" in e]
    first = re.findall(r"[+−][\d.e−]+", rows.first.locator("td").nth(1).inner_text())
    assert first[0] in numbers
    rows.first.locator("button").click()  # on to the neighbour
    assert page.locator(".nv-panel h4").count() == 1
    page.keyboard.press("Escape")
    assert page.locator(".nv-panel").is_hidden()


def test_filters(visit: Any, path: Path, graph: CircuitGraph) -> None:
    page = visit(path)
    total = len(layered(graph.graph).ties)
    slide = "(e, x) => { e.value = x; e.dispatchEvent(new Event('input')); }"
    page.locator(".nv-weak input").evaluate(slide, 0)
    assert (
        page.locator(".nv-count").inner_text()
        == f"{total} of {total} edges"
        == f"{page.locator('.nv-edge').count()} of {total} edges"
    )
    page.locator(".nv-weak input").evaluate(slide, 100)
    assert page.locator(".nv-edge").count() == 4  # the largest of each kind
    page.locator(".nv-weak input").evaluate(slide, 0)
    page.locator(".nv-kinds label", has_text="to neurons").locator("input").uncheck()
    feeds = sum(tie.kind == "feeds" for tie in layered(graph.graph).ties)
    assert page.locator(".nv-edge").count() == total - feeds
    page.locator(".nv-kinds label", has_text="to neurons").locator("input").check()
    page.locator(".nv-which select").select_option("measured")
    page.locator(".nv-weak input").evaluate(slide, 0)
    measured = [e for *_, e in graph.graph.edges(data=True) if "measured" in e]
    assert page.locator(".nv-edge").count() == len(measured)
    # what falls when the source is ablated was raised by it
    assert page.locator(".nv-edge.nv-up").count() == sum(e["measured"] < 0 for e in measured)


def test_hostile_text_is_shown_as_text(visit: Any, path: Path, graph: CircuitGraph) -> None:
    page = visit(path)
    name = best(graph)
    node(page, graph, name).locator("circle").click()
    data = graph.graph.nodes[name]
    assert panel_text(page, ".nv-panel h5 + p .nv-text") == [text for text, _ in json.loads(data["writes"])]
    context = json.loads(data["contexts"])[0]["tokens"]
    assert panel_text(page, ".nv-context:first-of-type span")[: len(context)] == context
    assert set(graphs.HOSTILE) <= set(context)
    assert page.locator("img, iframe, object").count() == 0 and page.locator("script").count() == 2
    assert graphs.HOSTILE[0] in page.locator("h1").inner_text() == f"Circuit of benevolence in {graphs.HOSTILE[0]}"
    long = f"input:{graphs.HOSTILE[5]}"
    node(page, graph, long).hover()
    assert page.locator(".nv-tip .nv-text").evaluate("e => e.textContent") == graphs.HOSTILE[5]
    box = page.locator(".nv-tip").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 1280


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_readable_and_inside_the_page(
    visit: Any, path: Path, graph: CircuitGraph, contrast: Any, fits: Any, palette: Any, scheme: str, width: int
) -> None:
    page = visit(path, width=width, scheme=scheme)
    fits(page)
    node(page, graph, best(graph)).click()
    fits(page)
    contrast(page, TEXT)
    assert palette(page.locator(".nv-draw svg")) > 50
    side, drawn = page.locator(".nv-side").bounding_box(), page.locator(".nv-draw").bounding_box()
    assert side["y"] >= drawn["y"] + drawn["height"] if width == 390 else side["x"] >= drawn["x"] + drawn["width"]


def test_it_is_drawn_anew_when_the_page_becomes_narrow(visit: Any, path: Path, graph: CircuitGraph) -> None:
    page = visit(path)
    name = best(graph)
    node(page, graph, name).locator("circle").click()
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_function("document.querySelector('.nv-draw svg').viewBox.baseVal.width < 400")
    assert name.split(":")[1] in page.locator(".nv-panel h4").inner_text()
    assert "nv-picked" in node(page, graph, name).get_attribute("class")


def test_tables_sort(visit: Any, path: Path) -> None:
    page = visit(path)
    head = page.locator("table.data th", has_text="attributed")

    def keys() -> list[float]:
        cells = page.eval_on_selector_all("table.data tbody tr", "rows => rows.map(r => r.cells[3].dataset.sort)")
        return [float(key) for key in cells if key]

    head.locator("button").click()
    assert keys() == sorted(keys(), reverse=True) and head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert keys() == sorted(keys()) and head.get_attribute("aria-sort") == "ascending"


def test_minimal_circuit_and_readers_without_scripts(visit: Any, path: Path, tmp_path: Path, palette: Any) -> None:
    page = visit(graphs.graph(heads=0).save(tmp_path / "minimal.html"))
    assert (
        page.locator(".nv-node[data-kind=neuron]").count() == 25
        and page.locator(".nv-node[data-kind=head]").count() == 0
    )
    assert palette(page.locator(".nv-draw svg")) > 50
    still = visit(path, script=False)
    assert palette(still.locator(".nv-draw svg")) > 50 and still.locator(".nv-bar").is_hidden()


def test_several_pictures_in_one_page_do_not_meddle(visit: Any, tmp_path: Path) -> None:
    circuits = [graphs.graph(value) for value in ("power", "security")]
    target = tmp_path / "two.html"
    cells = "".join(
        f"<div>{fragment(graph)}</div>" for graph in circuits
    )  # as a notebook puts them, script and all, twice
    target.write_text(f'<!doctype html><meta charset="utf-8">{cells}', encoding="utf-8")
    page = visit(target)
    assert page.locator(".nv-circuit[data-ready]").count() == 2
    hosts = page.locator(".nv-circuit")
    assert hosts.nth(0).locator(".nv-weak input").count() == 1 and hosts.nth(0).locator(".nv-kinds input").count() == 4
    hosts.nth(1).locator(".nv-node[data-kind=neuron] circle").first.click()
    assert hosts.nth(1).locator(".nv-panel").is_visible() and hosts.nth(0).locator(".nv-panel").is_hidden()
    page.keyboard.press("Escape")
    assert hosts.nth(1).locator(".nv-panel").is_hidden()
