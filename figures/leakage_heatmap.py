"""Draw RUN/figures/leakage_heatmap.pdf and .png from RUN/tables.

python figures/leakage_heatmap.py runs/demo
"""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("leakage_heatmap"))
