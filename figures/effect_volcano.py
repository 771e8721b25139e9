"""Draw RUN/figures/effect_volcano.pdf and .png from RUN/tables.

python figures/effect_volcano.py runs/demo
"""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("effect_volcano"))
