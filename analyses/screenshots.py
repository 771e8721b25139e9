"""Pictures of a report for docs/.

    python analyses/screenshots.py RUN/report.html docs

Writes OUT/report_1280.png and OUT/report_390.png, the first screens of the report on a desktop and on a phone, in light mode.
Needs Chromium ($NEVA_CHROMIUM or one on the path) and playwright.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
from pathlib import Path

#: Width, height (layout pixels), pixels per layout pixel.
SCREENS = ((1280, 2000, 1.0), (390, 3000, 1.0))
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
    from PIL import Image
    from playwright.sync_api import sync_playwright

    args.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=list(FLAGS))
        for width, height, scale in SCREENS:
            page = browser.new_page(
                viewport={"width": width, "height": height}, device_scale_factor=scale, color_scheme="light"
            )
            page.goto(args.report.resolve().as_uri())
            if args.value:
                page.locator(".chooser button", has_text=args.value).click()
            page.wait_for_timeout(500)
            target = args.out / f"report_{width}.png"
            # a palette would save more, but changes the values' colours
            Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(target, optimize=True)
            print(f"{target}: {target.stat().st_size / 1000:.0f} kB")
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
