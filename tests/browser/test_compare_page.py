"""The page of two runs in a real browser: sorting, texts side by side, phones, dark pages, hostile text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers import fake_run as runs
from neva_tl.study.report.compare import Comparison
from neva_tl.study.report.explorer import normalised

pytestmark = pytest.mark.browser
READ = (
    "main > p, li, h1, h2, table.data td, table.data button, nav a, .x-texts h4, .x-texts h5, .x-pair p, .x-about span"
)
ENDS = ("", "_lo", "_hi")


def estimates(number: float, difference: float) -> dict[str, float]:
    centre = {"a": number, "b": number + difference, "difference": difference}
    return {
        f"{side}{end}": x + by for side, x in centre.items() for end, by in zip(ENDS, (0, -0.05, 0.05), strict=True)
    }


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = normalised(runs.generations())
    assert texts is not None
    texts = texts[texts["method"] == "caa"].rename(
        columns={"text": "before", "valid": "before_valid", "score": "before_score"}
    )
    pairs = texts.assign(after=texts["before"] + " again", after_valid=True, after_score=texts["before_score"] - 0.25)
    measures = [
        {"method": method, "gate_a": "none", "gate_b": "probe", "target_gain": 0.4, "measure": name}
        | estimates(0.3, difference)
        for method, difference in (("neva", 0.2), ("caa", -0.01))
        for name in ("gain", "csr", "nlr")
    ]
    values = [
        {"method": "caa", "target_gain": 0.4, "value": value} | estimates(0.4, k / 10)
        for k, value in enumerate(("power", "benevolence"))
    ]
    neurons = {"value": "power", "size_a": 40, "size_b": 50, "shared": 12, "jaccard": 12 / 78, "expected": 1.3}
    comparison = Comparison(
        names=(runs.HOSTILE[:40], "second"), judge="exact", unit="P", theory=None, paired=True,
        values=("power", "benevolence"), measures=pd.DataFrame(measures), per_value=pd.DataFrame(values),
        neurons=pd.DataFrame([neurons | {"p_more": 1e-6, "p_fewer": 1.0}]), pairs=pairs,
        settings=pd.DataFrame([{"setting": "config: seed", "a": "0", "b": runs.HOSTILE}]), notes=("Nothing else.",),
    )  # fmt: skip
    return comparison.save(tmp_path_factory.mktemp("compare") / "page.html")


def test_measures_sort_by_the_difference(visit: Any, path: Path) -> None:
    page = visit(path)
    table = page.locator("#measures ~ .scroll table.data").first
    assert table.locator("tbody tr").count() == 4 and "none | probe" in table.inner_text()
    head = table.locator("th", has_text="difference")
    head.locator("button").focus()
    page.keyboard.press("Enter")
    keys = [float(k) for k in table.locator("tbody td:nth-child(7)").evaluate_all("t => t.map(e => e.dataset.sort)")]
    assert keys == sorted(keys, reverse=True) and keys[0] == pytest.approx(0.2)
    assert table.locator("tbody tr").first.locator("td").last.inner_text() == "yes"
    assert table.locator("tbody tr").last.locator("td").last.inner_text() == "no"


def test_texts_of_both_runs_are_side_by_side(visit: Any, path: Path) -> None:
    page = visit(path)
    page.locator(".x-value select").select_option(label="power")
    card = page.locator(".x-card").nth(1)
    assert card.locator("h5").all_inner_texts() == [runs.HOSTILE[:40], "second"]
    assert card.locator(".x-new").all_inner_texts() == ["again"] and card.locator(".x-gone").count() == 0
    assert "difference −0.25" in card.inner_text() and "towards power" in card.inner_text()
    page.locator(".x-find input").fill("onerror")
    assert page.locator(".x-card").count() == 1 and page.locator("[onerror], img").count() == 0


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light"), (390, "light"), (1280, "dark")])
def test_readable_and_inside_the_page(
    visit: Any, path: Path, contrast: Any, fits: Any, width: int, scheme: str
) -> None:
    page = visit(path, width=width, scheme=scheme)
    fits(page)
    contrast(page, READ)
