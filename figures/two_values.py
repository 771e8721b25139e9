"""Draw RUN/figures/two_values.pdf and .png from RUN/tables.

python figures/two_values.py runs/demo
"""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("two_values"))
