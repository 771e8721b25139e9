"""Draw RUN/figures/method_bars.pdf and .png from RUN/tables.

python figures/method_bars.py runs/demo
"""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("method_bars"))
