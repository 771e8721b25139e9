"""Draw RUN/figures/texts.pdf and .png from RUN/tables: `python figures/texts.py runs/demo`."""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("texts"))
