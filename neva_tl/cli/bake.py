"""`neva-tl bake`: a saved edit as weights of a plain Hugging Face checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli import completion
from neva_tl.cli.options import Debug, Dtype, Json, Quiet, Verbose, named, path_of
from neva_tl.core.messages import say


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(bake)


def bake(
    model: Annotated[
        str,
        typer.Argument(
            autocompletion=completion.model,
            callback=named,
            help="demo, a short name (neva-tl models), a .gguf file, a local Hugging Face folder, or a hub name",
        ),
    ],
    edit: Annotated[
        Path,
        typer.Argument(parser=path_of, metavar="EDIT", help="folder that `neva-tl steer --out` or nv.save_edit wrote"),
    ],
    out: Annotated[Path, typer.Argument(parser=path_of, metavar="OUT", help="folder for the checkpoint")],
    nearest: Annotated[
        bool,
        typer.Option("--nearest", help="bake the nearest edit where weights cannot hold this one (scope, gate, bound)"),
    ] = False,
    extra_layers: Annotated[
        bool,
        typer.Option(
            "--extra-layers", help="add a layer after each edited one where an architecture has no place for a bias"
        ),
    ] = False,
    dtype: Dtype = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Write a model with a saved edit in its weights, as a plain Hugging Face checkpoint that needs no code of neva_tl.

    The checkpoint is loaded again and compared with the model under the edit; its README.md has the figures.
    """
    import neva_tl as nv
    from neva_tl.editing.bake.write import FACTS

    folder = nv.bake(model, edit, out, nearest=nearest, extra_layers=extra_layers, dtype=dtype)
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps(facts))
        return
    check, weights = facts["check"], facts["request"]["dtype"]
    print(
        f"baked in {weights}: logits on {check['tokens']} tokens differ from those under the edit by at most "
        f"{check['difference']:.2g} (mean KL {check['kl']:.2g} nats per token)"
    )
    if facts["nearest_kl"] is not None:
        print(
            f"this is the nearest edit that weights can hold: mean KL {facts['nearest_kl']:.3g} nats per token from the saved one"
        )
    say(f"written: {folder}; README.md says what was baked")
