"""Draw RUN/figures/layer_ablation.pdf and .png from RUN/tables.

python figures/layer_ablation.py runs/demo
"""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("layer_ablation"))
