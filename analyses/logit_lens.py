"""Logit lens of a run folder: what each value's calibrated NeVA edit changes, layer by layer.

    python analyses/logit_lens.py runs/demo

Uses the run's own model, neurons and doses (manifest.json, cells/dose) on its open test prompts; writes RUN/tables/lens
and RUN/tables/lens_tokens (.parquet and .csv), which figures/logit_lens.py and figures/token_lens.py draw.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from neva_tl.errors import NevaError


def main() -> int:
    """Run the analysis; one clear line where the folder is no run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder, for example runs/demo")
    args = parser.parse_args()
    manifest = args.run / "manifest.json"
    if not manifest.exists():
        print(f"logit_lens: {args.run} is no run folder (make one with neva-tl run)", file=sys.stderr)
        return 2
    from neva_tl.study.lens import lens_table

    try:
        table = lens_table(args.run, json.loads(manifest.read_text())["config"], progress=True)
    except NevaError as error:
        print(f"logit_lens: {error}", file=sys.stderr)
        return error.exit_code
    ends = table[table["layer"] == table["layer"].max()]
    plain = ends[ends["condition"] == "unedited"].set_index("value")["log_odds"]
    own = ends[ends["steered"] == ends["value"]].set_index("value")[["dose", "log_odds"]]
    print(own.assign(unedited=plain, change=own["log_odds"] - plain).round(3).to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
