"""Draw RUN/figures/gain_leakage.pdf and .png from RUN/tables.

python figures/gain_leakage.py runs/demo
"""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("gain_leakage"))
