"""The command line of `analyses/NAME.py`: a run folder in, tables out, one line when something is missing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from neva_tl.core.errors import NevaError


def script(
    name: str,
    doc: str,
    act: Callable[[argparse.Namespace, Mapping[str, Any]], None],
    options: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> int:
    """Parse, act, and give the exit status.

    Args:
        name: The script's, for its error line.
        doc: Its docstring; the first line is the help's.
        act: Does the work and prints the result; gets the arguments (`run` is the folder) and the run's manifest.
        options: Adds arguments of the script's own.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder, for example runs/demo")
    options(parser)
    args = parser.parse_args()
    manifest = args.run / "manifest.json"
    if not manifest.exists():
        print(f"{name}: {args.run} is not a run folder (make one with neva-tl run)", file=sys.stderr)
        return 2
    try:
        act(args, json.loads(manifest.read_text()))
    except NevaError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    return 0
