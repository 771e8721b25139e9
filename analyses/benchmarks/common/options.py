"""Options and output of all benchmark scripts."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any


def pinnable(parser: argparse.ArgumentParser) -> None:
    """Add `--core`, for `pin`."""
    parser.add_argument("--core", type=int, help="run on this core, so that another benchmark can use another")


def pin(core: int | None) -> None:
    """Bind this process and its children to one core, where the system allows it."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})


def write_results(results: dict[str, Any], out: Path | None) -> None:
    """Write every repeat as JSON, if a file is named."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=1))
