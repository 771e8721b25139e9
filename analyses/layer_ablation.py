"""Per-layer ablation study of a run folder: value x layer x {zero, mean, amplify}.

    python analyses/layer_ablation.py runs/demo

Uses the run's model, prompts and settings (manifest.json), its statistics and its neurons; writes RUN/tables/layers.parquet
and .csv, which figures/layer_ablation.py draws.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from neva_tl.study import layer_table
from neva_tl.study.analyses.script import model_option, script


def act(args: argparse.Namespace, manifest: Mapping[str, Any]) -> None:
    """Ablate layer by layer and print the table."""
    print(layer_table(args.run, manifest["config"], model=args.model, progress=True).round(3).to_string(index=False))


if __name__ == "__main__":
    sys.exit(script("layer_ablation", __doc__, act, model_option))
