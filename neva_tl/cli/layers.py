"""`neva-tl layers`: an ablation study of every layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli import completion
from neva_tl.cli.options import Debug, Dtype, Json, K, Matmul, Model, Prompts, Quiet, Seed, Theory, Verbose, path_of
from neva_tl.cli.tables import print_table


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(layers)


def layers(
    model: Model = "demo",
    prompts: Prompts = "auto",
    theory: Theory = None,
    out: Annotated[Path, typer.Option("--out", parser=path_of, metavar="PATH", help="run folder")] = Path(
        "runs/layers"
    ),
    value: Annotated[
        list[str] | None,
        typer.Option("--value", autocompletion=completion.value_names, help="only this value (repeatable)"),
    ] = None,
    k: K = None,
    dtype: Dtype = "float32",
    matmul: Matmul = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Ablate layer by layer: value x layer x {zero, mean, amplify}.

    Each is measured on selected, random and all neurons of the layer.
    """
    from neva_tl.study import layer_ablation

    table = layer_ablation(
        model, prompts, value, folder=out, k=k, seed=seed, dtype=dtype, matmul=matmul, theory=theory, progress=True
    )
    if as_json:
        print(table.to_json(orient="records"))
    else:
        print_table(table.round(3))
