"""Draw RUN/figures/circle_plot.pdf and .png from RUN/tables.

python figures/circle_plot.py runs/demo
"""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("circle_plot"))
