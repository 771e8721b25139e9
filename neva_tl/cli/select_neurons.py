"""`neva-tl select`: the neurons that carry a value, with their statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli.options import (
    Debug,
    Dtype,
    Json,
    K,
    Model,
    Prompts,
    Quiet,
    Seed,
    Selector,
    Theory,
    ValueName,
    Verbose,
    path_of,
    selected,
)
from neva_tl.cli.tables import print_table
from neva_tl.core.messages import say


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(select)


def select(
    value: ValueName,
    model: Model = "demo",
    prompts: Prompts = "auto",
    theory: Theory = None,
    stats: Annotated[
        Path | None, typer.Option("--stats", parser=path_of, metavar="PATH", help="statistics written by collect")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=path_of, metavar="PATH", help="where to write PATH.json and PATH.safetensors"),
    ] = None,
    method: Selector = "auto",
    k: K = None,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Select the neurons that carry a value, with their statistics."""
    from neva_tl.core.auto import AUTO
    from neva_tl.core.files import check_output_pair

    if out is not None:
        check_output_pair(out)
    neurons, decisions = selected(
        model, prompts, dtype, value, method=method, k=k, seed=seed, stats=stats, theory=theory
    )
    if method == AUTO:
        say(f"auto: {decisions}")
    if out is not None:
        say(f"written: {neurons.save(out)}")
    if as_json:
        print(neurons.df.to_json(orient="records"))
    else:
        print(neurons)
        print_table(neurons.df.head(20).round(3))
