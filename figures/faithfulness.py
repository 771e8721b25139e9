"""Draw RUN/figures/faithfulness.pdf and .png from RUN/tables.

python figures/faithfulness.py runs/demo
"""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("faithfulness"))
