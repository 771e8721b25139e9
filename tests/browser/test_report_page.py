"""The report in a real browser: chooser, pictures, views, tables, phones, dark pages, hostile text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import fake_graph as graphs
from helpers import fake_run as runs

pytest.importorskip("circuitsvis")

from neva_tl.core.values import VALUES
from neva_tl.study.report import write_report

pytestmark = pytest.mark.browser
#: What people read; the leakage matrix is a colour chart, where faint is a message.
TEXT = (
    "main > p, li, h1, main > h2, main > h3, .value-panel > h3, .text h4, nav a, summary, summary span, dt, dd, "
    "table.data td, table.data button, .tile *, .chooser button, .text p"
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # one value without a circuit of its own: it falls back on the table's picture
    run = runs.write_run(tmp_path_factory.mktemp("report") / "run", leave_out=("effects", "layers", "dose"))
    graphs.write_circuits(run, VALUES[:9])
    return write_report(run)


def panel(page: Any) -> Any:
    return page.locator(".value-panel:not([hidden])")


def test_the_chooser_shows_one_circuit_at_a_time(visit: Any, path: Path, palette: Callable[[Any], int]) -> None:
    page = visit(path)
    assert panel(page).count() == 1 and page.locator(".chooser button").all_inner_texts() == list(VALUES)
    for place, value in enumerate(VALUES):
        page.locator(".chooser button", has_text=value).click()
        assert panel(page).count() == 1 and panel(page).get_attribute("data-value") == value
        assert page.locator(".chooser [aria-pressed=true]").all_inner_texts() == [value]
        if place < 9:
            panel(page).locator(".nv-node").first.wait_for()
            assert f"F = {0.7 + 0.02 * place:.2f}" in panel(page).locator(".nv-about").inner_text()
            assert palette(panel(page).locator(".nv-draw svg")) > 50
        else:
            assert palette(panel(page).locator("svg.circuit")) > 50


def test_panels_open_in_the_chosen_picture_only(visit: Any, path: Path) -> None:
    page = visit(path)
    page.locator(".chooser button", has_text="power").click()
    panel(page).locator(".nv-node[data-kind=neuron] circle").first.click()
    assert panel(page).locator(".nv-panel").is_visible() and page.locator(".nv-panel:not([hidden])").count() == 1
    page.keyboard.press("Escape")
    assert page.locator(".nv-panel:not([hidden])").count() == 0


def test_views_are_drawn_when_opened(visit: Any, path: Path, palette: Any) -> None:
    page = visit(path)
    assert page.evaluate("typeof CircuitsVis") == "undefined" and page.locator(".neva-circuitsvis").count() == 1
    page.locator(".chooser button", has_text="security").click()
    for place in (0, 1):
        panel(page).locator(".view summary").nth(place).click()
        host = panel(page).locator(".view").nth(place).locator(".neva-widget[data-drawn]")
        host.wait_for()
        assert palette(host) > 20
    shown = panel(page).locator(".colored-tokens").inner_text()
    assert graphs.HOSTILE[0] in shown and page.locator("[data-drawn]").count() == 2
    assert panel(page).locator("canvas").count() == 5


def test_tables_sort(visit: Any, path: Path) -> None:
    page = visit(path)
    table = page.locator("#faithfulness ~ .scroll table.data").first
    column = table.locator("th").all_inner_texts().index("F")

    def keys() -> list[float]:
        rows = table.locator("tbody tr")
        return [float(rows.nth(i).locator("td").nth(column).get_attribute("data-sort")) for i in range(rows.count())]

    table.locator("th button").nth(column).click()
    assert keys() == sorted(keys(), reverse=True) and len(keys()) == 9
    table.locator("th button").nth(column).click()
    assert keys() == sorted(keys())
    table.locator("th button").first.click()
    names = [row.split()[0] for row in table.locator("tbody tr").all_inner_texts()]
    assert names == sorted(VALUES[:9])


def test_hostile_text_is_shown_as_text(visit: Any, path: Path) -> None:
    page = visit(path)
    texts = page.eval_on_selector_all(".text p", "found => found.map(e => e.textContent)")
    assert runs.HOSTILE.strip() in texts
    assert page.locator('img[src="x"]').count() == 0 and page.locator(".prompt b").count() == 0
    assert page.locator("[onerror]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_readable_and_inside_the_page(
    visit: Any, path: Path, contrast: Any, fits: Any, scheme: str, width: int
) -> None:
    page = visit(path, width=width, scheme=scheme)
    fits(page)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    view = page.locator(".value-panel:not([hidden]) .neva-widget").first
    view.scroll_into_view_if_needed()
    page.wait_for_selector(".value-panel:not([hidden]) .neva-widget[data-drawn]")
    fits(page)
    contrast(page, TEXT)


def test_readers_without_scripts_see_all_circuits(visit: Any, path: Path, palette: Any) -> None:
    page = visit(path, script=False)
    assert page.locator(".value-panel").count() == 10 and page.locator(".chooser").is_hidden()
    assert all(page.locator(".value-panel").nth(k).locator("svg.circuit").first.is_visible() for k in range(10))
