"""Draw RUN/figures/dose_response.pdf and .png from RUN/tables.

python figures/dose_response.py runs/demo
"""

import sys

from neva_tl.plots.files import script

if __name__ == "__main__":
    sys.exit(script("dose_response"))
