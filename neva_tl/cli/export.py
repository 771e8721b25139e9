"""`neva-tl export`: a saved edit as files of another program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from neva_tl.cli import completion
from neva_tl.cli.options import Debug, Quiet, Verbose, finite, path_of
from neva_tl.core.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(export)


def export(
    edit: Annotated[
        Path, typer.Argument(parser=path_of, metavar="EDIT", help="folder of a saved edit (neva-tl steer --out)")
    ],
    out: Annotated[
        Path, typer.Argument(parser=path_of, metavar="OUT", help="torch: the folder to write; gguf: the file NAME.gguf")
    ],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            autocompletion=completion.export_format,
            help="torch: a Python file that steers a transformers model; gguf: a control vector for llama.cpp",
        ),
    ] = "torch",
    model: Annotated[
        str | None,
        typer.Option("--model", autocompletion=completion.model, help="the edit's model, where it moved since"),
    ] = None,
    dose: Annotated[
        float | None, typer.Option("--dose", callback=finite, help="another dose, in the edit's unit")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Write a saved edit for use without neva_tl: as plain PyTorch, or as a control vector of llama.cpp."""
    from neva_tl.core.files import check_output, check_own_folder
    from neva_tl.editing.export import FORMATS, export_edit
    from neva_tl.editing.export.torch_files import CODE
    from neva_tl.editing.saved import load_edit
    from neva_tl.study.steering.saved_model import model_of_edit

    if format not in FORMATS:
        raise InputError(f"unknown --format {format!r}: choose {' or '.join(FORMATS)}")
    if format == "gguf":
        check_output(out)
    else:
        check_own_folder(out, (CODE,), "exported edit", "name another folder")
    saved = load_edit(edit)
    item = saved.edit if dose is None else saved.edit.with_dose(dose)
    settings: dict[str, Any] = {"format": format}
    print(export_edit(item, out, model=model_of_edit(edit, saved, model), **settings))
