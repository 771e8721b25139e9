"""Draw RUN/figures/sparsity.pdf and .png from RUN/tables.

python figures/sparsity.py runs/demo
"""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("sparsity"))
