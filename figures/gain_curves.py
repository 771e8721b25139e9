"""Draw RUN/figures/gain_curves.pdf and .png from RUN/tables.

python figures/gain_curves.py runs/science/demo
"""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("gain_curves"))
