"""Logit lens of a run under each value's calibrated NeVA edit, layer by layer.

    python analyses/logit_lens.py runs/demo

Uses the run's model, neurons and doses (manifest.json, cells/dose) on its open test prompts; writes RUN/tables/lens
and RUN/tables/lens_tokens (.parquet and .csv), which figures/logit_lens.py and figures/token_lens.py draw.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from neva_tl.study.analyses.lens import lens_table
from neva_tl.study.analyses.script import model_option, script


def act(args: argparse.Namespace, manifest: Mapping[str, Any]) -> None:
    """Compute the lens and print the effect of each edit at the last layer."""
    table = lens_table(args.run, manifest["config"], model=args.model, progress=True)
    ends = table[table["layer"] == table["layer"].max()]
    plain = ends[ends["condition"] == "unedited"].set_index("value")["log_odds"]
    edited = ends[ends["steered"] == ends["value"]].set_index("value")[["dose", "log_odds"]]
    print(edited.assign(unedited=plain, change=edited["log_odds"] - plain).round(3).to_string())


if __name__ == "__main__":
    sys.exit(script("logit_lens", __doc__, act, model_option))
