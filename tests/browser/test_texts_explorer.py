"""The texts explorer, the search over neurons and the filter of long tables in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers import fake_graph as graphs
from helpers import fake_run as runs
from neva_tl.study.report import write_report

pytestmark = pytest.mark.browser
READ = (
    ".x-texts h4, .x-texts h5, .x-texts p, .x-texts span, .x-texts label, .x-score, .q-card *, .q-count, .table-filter"
)
SEPARATORS = "before\u2028after\u2029 </script><script>window.__pwned=1</script>"


def generations() -> pd.DataFrame:
    """Texts that name their dose, of which those of one prompt are on the validation split."""
    table = runs.generations()
    gain = table["target_gain"].map(lambda x: "" if x != x else f" at gain {x}")
    mild = table["prompt"].str.startswith("The best")
    table.loc[mild, "text"] = table["text"] + gain
    table.loc[table["prompt"].str.startswith("Tom"), "text"] = SEPARATORS
    return table.assign(split=["validation" if x else "test" for x in mild])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("circuitsvis")
    run = runs.write_run(
        tmp_path_factory.mktemp("explorer") / "run", leave_out=("effects", "layers", "dose", "leakage")
    )
    generations().to_parquet(run / "tables" / "generations.parquet")
    graphs.write_circuits(run, ("benevolence", "power"))
    return write_report(run)


def pick(page: Any, *, value: str = "", method: str = "", sort: str = "") -> None:
    """Choose by label; an empty label takes any."""
    page.locator(".x-value select").select_option(label=value or "any value")
    page.locator(".x-method select").select_option(label=method or "any method")
    page.locator(".x-sort select").select_option(value=sort)


def count(page: Any) -> str:
    return str(page.locator(".x-count").inner_text())


def scores(page: Any) -> list[float]:
    texts = page.locator(".x-pair > div:last-child .x-score").all_inner_texts()
    return [float(text.split()[1].replace("−", "-")) for text in texts]


def test_it_filters_and_searches(visit: Any, path: Path) -> None:
    page = visit(path)
    assert page.locator(".x-still").is_hidden() and page.locator(".x-texts").is_visible()
    pick(page, value="power", method="CAA")
    assert count(page).startswith("3 of 3 texts") and page.locator(".x-card").count() == 3
    assert page.locator(".x-about", has_text="towards power").count() == 3
    pick(page)
    assert count(page).startswith("10 of 18 texts")
    page.locator(".x-texts .x-more").click()
    assert page.locator(".x-card").count() == 18 and page.locator(".x-texts .x-more").is_hidden()
    page.locator(".x-find input").fill("FREE day")
    assert count(page).startswith("6 of 6 texts") and page.locator(".x-card h4 mark").first.inner_text() == "free day"
    page.locator(".x-find input").fill("no such words")
    assert count(page) == "No text matches." and page.locator(".x-card").count() == 0
    page.locator(".x-find input").fill("")
    page.locator(".x-bad input").check()
    assert count(page).startswith("6 of 6 texts")
    assert page.locator(".x-card .bad").count() == 12  # the unedited texts of that prompt are invalid too


def test_it_sorts_by_score_and_by_change(visit: Any, path: Path) -> None:
    page = visit(path)
    pick(page, sort="score-")
    page.locator(".x-texts .x-more").click()
    down = scores(page)
    assert len(down) == 18 and down == sorted(down, reverse=True)
    pick(page, sort="score+")
    assert scores(page) == sorted(down)[:10]
    pick(page, sort="change-")
    changes = [float(x.split()[1].replace("−", "-")) for x in page.locator(".x-change").all_inner_texts()]
    assert len(changes) == 10 and changes == sorted(changes, reverse=True) and changes[0] > 0.5


def test_the_dose_slider_shows_the_other_text(visit: Any, path: Path) -> None:
    page = visit(path)
    pick(page, value="power", method="CAA")
    card = page.locator(".x-card", has_text="The best thing")
    assert "validation prompt" in card.inner_text() and "target gain 0.4" in card.inner_text()
    assert page.locator(".x-card", has_text="Tom thinks").locator(".x-split").inner_text() == "test prompt"
    assert "at gain 0.4" in card.locator(".x-pair").inner_text()
    card.locator("input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    assert "at gain 0.2" in card.locator(".x-pair").inner_text() and "target gain 0.2" in card.inner_text()
    assert page.locator(".x-card", has_text="Mara says").locator("output").inner_text().startswith("target gain 0.4")
    page.locator(".x-dose input").focus()
    page.keyboard.press("Home")
    assert page.locator(".x-dose output").inner_text() == "target gain 0.2"
    assert all(text.startswith("target gain 0.2") for text in page.locator(".x-card output").all_inner_texts())


def test_changed_words_are_marked(visit: Any, path: Path) -> None:
    page = visit(path)
    pick(page, value="power", method="CAA")
    card = page.locator(".x-card", has_text="The best thing")
    assert card.locator(".x-new").all_inner_texts() == ["power (caa) at gain 0.4"]
    assert card.locator(".x-gone").all_inner_texts() == ["the weather (unedited)"]


def test_hostile_texts_stay_texts(visit: Any, path: Path) -> None:
    page = visit(path)
    pick(page, value="power", method="CAA")
    shown = page.eval_on_selector_all(".x-pair p", "found => found.map(e => e.textContent)")
    assert runs.HOSTILE.strip() in shown and SEPARATORS in shown
    assert page.locator(".x-card h4", has_text="Tom thinks <b>we</b> should").count() == 1
    assert page.locator(".x-texts img, .x-texts b, .q-neurons img, .q-list script").count() == 0


def test_neurons_are_searched_and_opened_in_their_circuit(visit: Any, path: Path) -> None:
    page = visit(path)
    find, list_ = page.locator(".q-bar input"), page.locator(".q-card")
    assert page.locator(".q-count").inner_text().startswith("6 of ") and list_.locator(".q-text").count() > 6
    name = page.locator("[data-value=power] .nv-data").evaluate(
        "e => JSON.parse(e.textContent).nodes.filter(n => n.kind === 'neuron')[3].name"
    )
    find.fill(name)
    first = list_.filter(has_text="circuit of power").first
    assert first.locator("h4 > span").first.inner_text() == name
    first.locator("button").click()
    panel = page.locator(".value-panel[data-value=power]")
    assert panel.is_visible() and page.locator(".value-panel[data-value=benevolence]").is_hidden()
    panel.locator(".nv-panel h4", has_text=name).wait_for()
    find.fill("Mara")
    assert list_.locator(".q-hit").count() > 0 and "Mara" in list_.first.inner_text()
    find.fill("no such word")
    assert page.locator(".q-count").inner_text() == "No neuron matches."


def test_long_tables_have_a_filter(visit: Any, path: Path) -> None:
    page = visit(path)
    section = page.locator("details:has(> summary:text-is('Per value'))")
    section.locator("summary").click()
    rows, total = section.locator("tbody tr:visible"), section.locator("tbody tr").count()
    assert rows.count() == total > 15
    section.locator(".table-filter input").fill("caa power")
    texts = [text.lower() for text in rows.all_inner_texts()]
    assert 0 < len(texts) < total and all("caa" in text and "power" in text for text in texts)
    assert section.locator(".table-filter span").inner_text() == f"{len(texts)} of {total} rows"


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_readable_and_inside_the_page(
    visit: Any, path: Path, contrast: Any, fits: Any, width: int, scheme: str
) -> None:
    page = visit(path, width=width, scheme=scheme)
    pick(page)
    fits(page)
    contrast(page, READ)
    sides = [page.locator(".x-pair").first.locator("> div").nth(i).bounding_box() for i in (0, 1)]
    assert sides[1]["y"] > sides[0]["y"] if width == 390 else sides[1]["x"] > sides[0]["x"]


def test_readers_without_scripts_see_the_first_texts(visit: Any, path: Path) -> None:
    page = visit(path, script=False)
    assert page.locator(".x-still").is_visible() and page.locator(".x-texts").is_hidden()
    assert page.locator(".q-neurons").is_hidden()
