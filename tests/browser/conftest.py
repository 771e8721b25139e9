"""Chromium, and pages in it that must stay quiet: no request, no console error, no page error, nothing run from a text."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Circuits draw themselves when the browser first tells them their width, a frame or more after the page has loaded.
PAINTED = """() => [...document.querySelectorAll(".nv-draw")].every(
    (draw) => !draw.clientWidth || draw.querySelector("svg[role=group]"))"""
#: Opens a file at a width and in a colour scheme.
Open = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    binary = os.environ.get("NEVA_CHROMIUM") or shutil.which("chromium")
    if not binary or not Path(binary).exists():
        pytest.skip("no Chromium: install it or set NEVA_CHROMIUM")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=binary, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Open]:
    """Open a page; at the test's end everything it asked for and complained about is looked at."""
    contexts, noise = [], []

    def visit_(path: Path, *, width: int = 1280, scheme: str = "light", script: bool = True) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else noise.append(f"asked {r.url}"))
        page.on("websocket", lambda w: noise.append(f"socket {w.url}"))
        page.on("console", lambda m: noise.append(f"console: {m.text}") if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: noise.append(f"error: {e}"))
        page.on("dialog", lambda d: (noise.append(f"dialog {d.message}"), d.dismiss()))
        page.goto(path.as_uri())
        if script:
            page.wait_for_function(PAINTED)
        return page

    yield visit_
    for context in contexts:
        for page in context.pages:
            if page.evaluate("document.querySelector('script') !== null"):
                assert page.evaluate("window.__pwned") is None, "a text of the data was run"
        context.close()
    assert noise == []


def colours(locator: Any) -> int:
    """How many colours an element's picture holds."""
    from PIL import Image

    image = Image.open(io.BytesIO(locator.screenshot())).convert("RGB")
    return len(np.unique(np.asarray(image).reshape(-1, 3), axis=0))


@pytest.fixture(scope="session")
def palette() -> Callable[[Any], int]:
    return colours


#: Contrast (WCAG) of every visible text of the chosen elements against what is painted behind it.
CONTRAST = """
(selector) => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); const f = text.startsWith("color(") ? 255 : 1;
    return [n[0] * f, n[1] * f, n[2] * f, n[3] ?? 1]; };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const linear = (x) => x / 255 <= .03928 ? x / 255 / 12.92 : ((x / 255 + .055) / 1.055) ** 2.4;
  const light = (c) => .2126 * linear(c[0]) + .7152 * linear(c[1]) + .0722 * linear(c[2]);
  const ground = (e) => { const stack = []; 
    for (let x = e; x; x = x.parentElement) stack.push(parse(getComputedStyle(x).backgroundColor));
    let c = matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0, 1] : [255, 255, 255, 1];
    for (const layer of stack.reverse()) c = over(layer, c); return c; };
  const bad = [];
  let count = 0;
  for (const e of document.querySelectorAll(selector)) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
    const back = ground(e), style = getComputedStyle(e);
    const ink = over(parse(e.namespaceURI.endsWith("svg") ? style.fill : style.color), back);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    count += 1;
    if (ratio < 4.5) bad.push(`${e.tagName}.${e.className} ${e.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return [count, bad];
}
"""


@pytest.fixture(scope="session")
def contrast() -> Callable[[Any, str], None]:
    """Assert that every text in the chosen elements is readable."""

    def check(page: Any, selector: str) -> None:
        count, bad = page.evaluate(CONTRAST, selector)
        assert count > 10 and bad == []

    return check


@pytest.fixture(scope="session")
def fits() -> Callable[[Any], None]:
    """Assert that a page does not scroll sideways."""

    def check(page: Any) -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")

    return check
