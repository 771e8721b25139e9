"""Pictures of a report for docs/.

    python analyses/screenshots.py RUN/report.html docs

Writes OUT/report_1280.png and OUT/report_390.png, the first screens of the report on a desktop and on a phone,
OUT/report_1280_dark.png and OUT/report_390_dark.png, the same on dark pages, and OUT/report_circuit.png, one circuit.
Needs Chromium ($NEVA_CHROMIUM or one on the path) and playwright.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
from pathlib import Path

#: Width and height in layout pixels. A phone shows the first screen in two parts.
SCREENS = ((1280, 800), (390, 1700))
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


def main() -> int:
    """Take the pictures, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="a run's report.html")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--value", help="value of the circuit (default: the first)")
    args = parser.parse_args()
    binary = os.environ.get("NEVA_CHROMIUM") or shutil.which("chromium")
    if not args.report.is_file():
        print(f"{args.report} is missing: run the study first", file=sys.stderr)
        return 2
    if not binary:
        print("no Chromium: install it or set NEVA_CHROMIUM", file=sys.stderr)
        return 2
    from playwright.sync_api import sync_playwright

    args.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=list(FLAGS))
        for width, height in SCREENS:
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(args.report.resolve().as_uri())
                page.wait_for_timeout(500)
                _save(page.screenshot(), args.out / f"report_{width}{'' if scheme == 'light' else '_dark'}.png")
                page.close()
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme="light")
        page.goto(args.report.resolve().as_uri())
        if args.value:
            page.locator(".chooser button", has_text=args.value).click()
        panel = page.locator(".value-panel:not([hidden])")
        if panel.count():
            panel.scroll_into_view_if_needed()
            page.wait_for_timeout(500)
            _save(panel.screenshot(), args.out / "report_circuit.png")
        browser.close()
    return 0


def _save(png: bytes, target: Path) -> None:
    from PIL import Image

    # a palette would save more, but changes the values' colours
    Image.open(io.BytesIO(png)).convert("RGB").save(target, optimize=True)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    raise SystemExit(main())
