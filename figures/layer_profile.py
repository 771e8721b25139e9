"""Draw RUN/figures/layer_profile.pdf and .png from RUN/tables.

python figures/layer_profile.py runs/demo
"""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("layer_profile"))
