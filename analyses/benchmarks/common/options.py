"""What the command lines of all benchmarks share."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any


def pinnable(parser: argparse.ArgumentParser) -> None:
    """Add `--core`, for `pin`."""
    parser.add_argument("--core", type=int, help="stay on this core (another benchmark may then have another)")


def pin(core: int | None) -> None:
    """Stay on one core, this process and those it starts, where the system lets us: benchmarks then can run two at a time."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        here = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {here[core % len(here)]})


def written(found: dict[str, Any], out: Path | None) -> None:
    """Every repeat as JSON, where a file was named."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1))
