"""The report in a real browser: chooser, pictures, views, tables, phones, dark pages, hostile text."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
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
    "table.data td, table.data button, .chooser button, .text p, #first *, .files a, .code *"
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_screen_fits_without_scrolling(visit: Any, path: Path, scheme: str) -> None:
    page = visit(path, scheme=scheme)
    page.set_viewport_size({"width": 1280, "height": 800})
    for part in (".plain", ".example", ".picture", ".limits"):
        box = page.locator(f"#first {part}").bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 800, part
    assert page.locator(".plain p").count() == 2
    # dots lie on their axes
    for dot, axis in zip(page.locator(".point").all(), page.locator(".axis").all(), strict=True):
        inner, outer = dot.bounding_box(), axis.bounding_box()
        assert outer["x"] <= inner["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"]


def test_definitions_show_on_hover_on_focus_and_on_a_tap(visit: Any, path: Path) -> None:
    page = visit(path)
    tip, term = page.locator("#tip"), page.locator("#first a.term", has_text="gain").first
    assert tip.is_hidden()
    term.hover()
    assert tip.is_visible() and tip.inner_text().startswith("gain D[i,i], averaged over values")
    assert term.get_attribute("aria-describedby") == "tip"
    page.mouse.move(1279, 1)
    assert tip.is_hidden() and term.get_attribute("aria-describedby") is None
    term.focus()
    assert tip.is_visible()
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    term.dispatch_event("pointerdown", {"pointerType": "touch", "bubbles": True})
    term.dispatch_event("click", {"bubbles": True, "cancelable": True})
    assert tip.is_visible() and "#" not in page.url  # a tap does not jump to the definitions
    head = page.locator("table.data button[data-term=def-nlr-ours]").first
    head.scroll_into_view_if_needed()
    head.hover()
    assert tip.inner_text().startswith("NLR (ours) (here: leakage per gain")
    box = tip.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 1280 and box["y"] >= 0


def test_files_and_code_can_be_taken_along(visit: Any, path: Path, tmp_path: Path) -> None:
    page = visit(path)
    with page.expect_download() as waiting:
        page.locator("#downloads ~ .files a[download='methods.csv']").click()
    waiting.value.save_as(tmp_path / "methods.csv")
    assert len(pd.read_csv(tmp_path / "methods.csv")) == len(runs.methods())
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    block = page.locator("figure.code").first
    block.locator("button.copy").click()
    page.wait_for_function("document.querySelector('button.copy').textContent === 'Copied'")
    pasted = page.evaluate("navigator.clipboard.readText()")
    assert pasted == block.locator("pre").text_content() and "nv.Run.open" in pasted


def test_figures_turn_dark_with_the_page(visit: Any, path: Path) -> None:
    from PIL import Image

    grounds = {}
    for scheme in ("light", "dark"):
        picture = visit(path, scheme=scheme).locator(".paper img").first
        pixels = np.asarray(Image.open(io.BytesIO(picture.screenshot())).convert("L"), dtype=float)
        grounds[scheme] = np.median(pixels)
        # what is drawn differs from the ground as much as ink from paper
        assert np.abs(pixels - np.median(pixels)).max() > 150
    assert grounds["light"] > 240 and grounds["dark"] < 40


def test_readers_without_scripts_see_all_circuits(visit: Any, path: Path, palette: Any) -> None:
    page = visit(path, script=False)
    assert page.locator(".value-panel").count() == 10 and page.locator(".chooser").is_hidden()
    assert all(page.locator(".value-panel").nth(k).locator("svg.circuit").first.is_visible() for k in range(10))
    assert page.locator("button.copy").first.is_hidden()  # a term is a link to its definition
    assert page.locator("#first a.term").first.get_attribute("href").startswith("#def-")
