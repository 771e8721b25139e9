"""CircuitsVis views alone in a real browser: they draw, ask nothing, and show hostile tokens as text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import fake_graph as graphs

pytest.importorskip("circuitsvis")

from neva_tl.plots import attention, bundle, colored_tokens, neuron_activations

pytestmark = pytest.mark.browser
SPACE = re.compile(r"\s")
LABELS = ["L0.1", "</script>L3.2", '<b onclick="window.__pwned=1">']


def shown(token: str) -> str:
    """A token as CircuitsVis shows it: white space as hard spaces (its own `\\s`, which knows line separators)."""
    return SPACE.sub("\u00a0", token).replace("\0", "␀")


@pytest.fixture
def tokens() -> list[str]:
    return [*graphs.PROMPT, *graphs.HOSTILE]


def drawn(page: Any) -> Any:
    page.wait_for_selector(".neva-widget[data-drawn]")
    page.wait_for_function("document.querySelector('.neva-mount').childElementCount > 0")
    return page.locator(".neva-widget").first


def spans(page: Any) -> list[str]:
    return page.eval_on_selector_all(".colored-tokens > span > span", "found => found.map(e => e.textContent)")


def test_neuron_activations(visit: Any, tokens: list[str], tmp_path: Path, palette: Any) -> None:
    acts = np.random.default_rng(0).normal(size=(len(tokens), 3))
    page = visit(neuron_activations(tokens, acts, LABELS).save(tmp_path / "x.html"))
    assert palette(drawn(page)) > 20
    # U+001C to U+001F are white space to Python only, none of them is among the tokens
    assert spans(page) == [shown(token) for token in tokens]
    assert page.locator("#neuron-selector option").all_inner_texts() == LABELS
    first = page.eval_on_selector_all(
        ".colored-tokens > span > span", "found => found.map(e => getComputedStyle(e).backgroundColor)"
    )
    page.locator("#neuron-selector").select_option(index=2)
    second = page.eval_on_selector_all(
        ".colored-tokens > span > span", "found => found.map(e => getComputedStyle(e).backgroundColor)"
    )
    assert first != second
    assert page.locator("img, b").count() == 0


def test_colored_tokens(visit: Any, tokens: list[str], tmp_path: Path, palette: Any, fits: Any) -> None:
    values = np.linspace(-1, 1, len(tokens))
    page = visit(colored_tokens(tokens, values).save(tmp_path / "x.html"), width=390)
    assert palette(drawn(page)) > 20
    fits(page)
    assert spans(page) == [shown(token) for token in tokens]
    red, blue = (
        page.locator(".colored-tokens > span > span").nth(place).evaluate("e => getComputedStyle(e).backgroundColor")
        for place in (len(tokens) - 1, 0)
    )
    assert (red, blue) == ("rgb(178, 24, 43)", "rgb(33, 102, 172)")


def test_attention(visit: Any, tokens: list[str], tmp_path: Path, palette: Any) -> None:
    n = len(tokens)
    patterns = np.tril(np.random.default_rng(1).random((3, n, n)))
    patterns /= patterns.sum(-1, keepdims=True)
    page = visit(attention(tokens, patterns, LABELS).save(tmp_path / "x.html"))
    assert palette(drawn(page)) > 20
    assert page.locator("h4").all_inner_texts() == LABELS
    page.wait_for_function("document.querySelectorAll('canvas').length === 4")
    large = page.locator("canvas").last
    page.wait_for_function("[...document.querySelectorAll('canvas')].at(-1).clientWidth > 200")
    before = large.screenshot()
    assert palette(large) > 20
    page.locator("h4").nth(2).click()
    page.wait_for_function("[...document.querySelectorAll('h2')].at(-1).textContent.startsWith('<b')")
    page.wait_for_timeout(200)
    assert large.screenshot() != before
    assert page.locator("img, b").count() == 0


def test_many_views_share_a_bundle_and_wait_to_be_seen(
    visit: Any, tokens: list[str], tmp_path: Path, palette: Any
) -> None:
    view = colored_tokens(tokens, np.ones(len(tokens)))
    target = tmp_path / "many.html"
    folded = "".join(f"<details><summary>text {k}</summary>{view.bare}</details>" for k in range(4))
    target.write_text(f'<!doctype html><meta charset="utf-8"><body>{folded}{bundle()}', encoding="utf-8")
    assert target.stat().st_size < 1_400_000
    page = visit(target)
    assert page.locator("[data-drawn]").count() == 0 and page.evaluate("typeof CircuitsVis") == "undefined"
    page.locator("summary").nth(2).click()
    assert palette(drawn_in(page, 2)) > 5
    assert page.locator("[data-drawn]").count() == 1
    page.locator("summary").nth(0).click()
    assert palette(drawn_in(page, 0)) > 5


def drawn_in(page: Any, place: int) -> Any:
    host = page.locator("details").nth(place).locator(".neva-widget[data-drawn]")
    host.locator(".colored-tokens").wait_for()
    return host
