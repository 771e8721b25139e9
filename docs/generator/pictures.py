"""Put the figures of a run into the gallery, small: `python docs/generator/pictures.py RUN` after `make figures RUN=RUN`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from generator.gallery import PICTURES, scripts
from generator.names import ROOT
from neva_tl.plots.paper import FOLDER

#: Pixels: twice the width of a page's text.
WIDTH = 1400
#: Colours of a picture: drawings need few.
COLOURS = 128


def shrink(source: Path, target: Path) -> None:
    """Write a picture no wider than `WIDTH`, with a palette."""
    with Image.open(source) as image:
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image.convert("RGBA"), mask=image.convert("RGBA").getchannel("A"))
    flat.thumbnail((WIDTH, 10 * WIDTH), Image.Resampling.LANCZOS)
    flat.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)


def main(run: Path) -> int:
    """Copy the pictures of every script that the run has; name the others.

    Args:
        run: The run folder.

    Returns:
        The exit status.
    """
    folder = ROOT / PICTURES
    folder.mkdir(exist_ok=True)
    if not (run / FOLDER).is_dir():
        print(f"{run} has no figures of a paper: make figures RUN={run} draws them", file=sys.stderr)
        return 2
    for stale in folder.glob("*.png"):
        stale.unlink()  # of another run, or of a script that is gone
    for name in scripts():
        source = run / FOLDER / f"{name}.png"
        if source.is_file():
            shrink(source, folder / f"{name}.png")
            print(folder / f"{name}.png")
        else:
            print(f"{name}: the run has no such figure", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
