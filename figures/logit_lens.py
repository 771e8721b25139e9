"""Draw RUN/figures/logit_lens.pdf and .png from RUN/tables.

python figures/logit_lens.py runs/demo
"""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("logit_lens"))
