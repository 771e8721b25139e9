"""The command line of the scripts `analyses/NAME.py`.

A script reads a run folder and writes tables; an error is one line on stderr.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from neva_tl.core.errors import NevaError
from neva_tl.core.files import read_json
from neva_tl.core.locks import lock_folder
from neva_tl.core.messages import long_steps, notice


def model_option(parser: argparse.ArgumentParser) -> None:
    """Add `--model`, for a model that moved since the run.

    Args:
        parser: The parser of a script.
    """
    parser.add_argument("--model", help="name or folder of the run's model; default: the one that the run recorded")


def sample_options(parser: argparse.ArgumentParser, *, rows: int, validation: int, items: int) -> None:
    """Add `--gain`, `--dose`, `--rows`, `--validation`, `--items` and `--seed` of a measurement outside a run.

    Args:
        parser: The parser of a script.
        rows: Default number of training pairs of each value.
        validation: Default number of validation items of each value.
        items: Default number of test items of each value.
    """
    parser.add_argument("--gain", type=float, default=0.4, help="gain at which doses are matched")
    parser.add_argument("--dose", type=float, help="one dose for all edits instead of a search")
    parser.add_argument("--rows", type=int, default=rows, help="training pairs (or rows per pole) of each value")
    parser.add_argument("--validation", type=int, default=validation, help="validation items of each value")
    parser.add_argument("--items", type=int, default=items, help="test items of each value")
    parser.add_argument("--seed", type=int, default=0)


def script(
    name: str,
    doc: str,
    act: Callable[[argparse.Namespace, Mapping[str, Any]], None],
    options: Callable[[argparse.ArgumentParser], None] = lambda _: None,
) -> int:
    """Parse the arguments, do the work, and return the exit status.

    Args:
        name: Name of the script, for its error line.
        doc: Docstring of the script; its first line becomes the help.
        act: Does the work and prints the result; receives the arguments (`run` is the folder) and the run's manifest.
        options: Adds the script's own arguments.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder, for example runs/demo")
    options(parser)
    args = parser.parse_args()
    manifest = args.run / "manifest.json"
    if not manifest.exists():
        notice(f"{name}: {args.run} is not a run folder (make one with neva-tl run)")
        return 2
    try:
        with lock_folder(args.run), long_steps(True):
            act(args, read_json(manifest, "the manifest of a run"))
    except NevaError as error:
        notice(f"{name}: {error}")
        return error.exit_code
    return 0
