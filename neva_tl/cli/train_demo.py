"""`neva-tl train-demo`: another demo model, trained by the embedded recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli.options import Debug, Json, Quiet, Seed, Verbose, named, path_of


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command("train-demo")(train_demo)


def train_demo(
    out: Annotated[
        Path, typer.Option("--out", parser=path_of, metavar="PATH", help="folder for the trained model")
    ] = Path("runs/demo-model"),
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="optimiser steps; default: those of the recipe")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            callback=named,
            help="start from a model's weights: shipped, or a folder; default: random weights",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="CPU threads; default: those of the recipe")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Train a demo model with the recipe of the embedded one.

    This takes half an hour on two cores. Use the result as --model demo:FOLDER.
    NEVA_DEMO_BORDER_RATE (0 to 0.5) sets how many words neighbouring values share in its world.
    """
    from neva_tl.demo import train

    card = train(out, steps=steps, seed=seed, progress=True, start=start, threads=threads)
    print(json.dumps(card, default=str) if as_json else f"trained model: {out}")
