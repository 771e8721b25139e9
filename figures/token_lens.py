"""Draw RUN/figures/token_lens.pdf and .png from RUN/tables.

python figures/token_lens.py runs/demo
"""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("token_lens"))
