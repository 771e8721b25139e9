"""Draw RUN/figures/sensitivity.pdf and .png from RUN/tables.

python figures/sensitivity.py runs/demo
"""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("sensitivity"))
