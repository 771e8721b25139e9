"""Contact sheet: all figures of a run on one picture on one scale, those of a column's width and of both, with their names.

    python analyses/contact_sheet.py runs/demo [--out docs/figures.png]

Reads the PNGs that `make figures RUN=...` wrote into RUN/paper, those of the paper first.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from neva_tl.core.errors import InputError, NevaError
from neva_tl.core.files import atomic_write
from neva_tl.plots.style import FIGURE_DPI
from neva_tl.study.paper.captions import CAPTIONS

#: Pixels of a column, of the gaps, and of a figure's name; columns side by side.
COLUMN, GAP, NAME, ACROSS = 350, 20, 20, 4
#: Inches from which a figure takes two columns.
WIDE = 4.5
#: Colours of the PNG: enough for figures of flat colours.
COLOURS = 200


def main() -> int:
    """Run the command line; missing figures are an error of one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--out", type=Path, default=Path("docs/figures.png"), help="picture (default: %(default)s)")
    args = parser.parse_args()
    try:
        picture = sheet(figures_of(args.run))
        buffer = io.BytesIO()
        picture.quantize(COLOURS).save(buffer, "png", optimize=True)
        with atomic_write(args.out) as file:
            file.write_bytes(buffer.getvalue())
    except NevaError as error:
        print(f"contact_sheet: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{args.out}: {picture.width} x {picture.height} pixels, {len(buffer.getvalue()) // 1000} kB")
    return 0


def figures_of(run: Path) -> list[Path]:
    """Return the PNGs of a run's paper figures, in the order of the paper, then the supplements by name.

    Args:
        run: run folder.

    Raises:
        InputError: There are none.
    """
    order = list(CAPTIONS)
    paths = sorted(
        (run / "paper").glob("*.png"),
        key=lambda path: (order.index(path.stem) if path.stem in order else len(order), path.stem),
    )
    if not paths:
        raise InputError(f"{run}/paper has no figures: draw them with `make figures RUN={run}`")
    return paths


def sheet(paths: list[Path]) -> Image.Image:
    """Put figures below their names, each where the sheet is shortest so far.

    Args:
        paths: the PNGs.
    """
    font = ImageFont.load_default(14)
    heights = [GAP] * ACROSS
    places = []
    for path in paths:
        picture = Image.open(path).convert("RGB")
        span = 2 if picture.width / FIGURE_DPI > WIDE else 1
        width = span * COLUMN + (span - 1) * GAP
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
        tops = [max(heights[column : column + span]) for column in range(ACROSS - span + 1)]
        column = tops.index(min(tops))
        places.append((path.stem, picture, GAP + column * (COLUMN + GAP), tops[column]))
        heights[column : column + span] = [tops[column] + picture.height + NAME + GAP] * span
    out = Image.new("RGB", (GAP + ACROSS * (COLUMN + GAP), max(heights)), "white")
    draw = ImageDraw.Draw(out)
    for name, picture, x, y in places:
        draw.text((x, y), name, fill="#444444", font=font)
        out.paste(picture, (x, y + NAME))
    return out


if __name__ == "__main__":
    sys.exit(main())
