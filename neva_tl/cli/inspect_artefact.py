"""`neva-tl inspect`: what a file or folder is, and whether it is intact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli.options import Debug, Json, Quiet, Verbose, path_of


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(inspect)


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            parser=path_of, metavar="FILE", help="folder of an edit, neuron set, table of prompts, or run folder"
        ),
    ],
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Say what a file or folder of neva_tl is: kind, model, version, content hash, and whether it is intact.

    Exits with 0 if it is intact, else with 1. No model is loaded.
    """
    from neva_tl.study.analyses.inspection import inspect_artefact

    result = inspect_artefact(file)
    print(json.dumps({**result.facts, "intact": not result.damage, "damage": result.damage}) if as_json else result)
    if result.damage:
        raise typer.Exit(1)
