"""`neva-tl card`: save an edit of a run with its card, or write the card of a saved edit again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli import completion
from neva_tl.cli.options import Debug, Quiet, Verbose, finite, path_of
from neva_tl.core.errors import InputError
from neva_tl.core.messages import say


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(card)


def card(
    path: Annotated[Path, typer.Argument(parser=path_of, metavar="PATH", help="run folder, or folder of an edit")],
    value: Annotated[
        str | None, typer.Option("--value", autocompletion=completion.value_names, help="steered value of the run")
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", autocompletion=completion.method, help="method of the run")
    ] = None,
    gain: Annotated[
        float | None, typer.Option("--gain", callback=finite, help="matched gain of the run; default: its headline")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", autocompletion=completion.model, help="the run's model, where it is no longer at its place"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=path_of, metavar="PATH", help="folder for the edit of the run and its card"),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Save an edit of a run with its card (README.md), or write the card of a saved edit again.

    The card says what the run measured of the edit; nothing is measured anew.
    """
    from neva_tl.core.files import check_own_folder
    from neva_tl.editing.readme import README, write_readme
    from neva_tl.editing.saved import FILE, load_edit

    if out is not None:
        check_own_folder(out, (FILE,), "edit")
    if (path / FILE).is_file():
        if out is not None or value is not None or method is not None or gain is not None:
            raise InputError(f"{path} is the folder of one edit: leave out --value, --method, --gain and --out")
        saved = load_edit(path)
        if not write_readme(path, saved.edit, saved.model, saved.about, saved.origin):
            raise InputError(f"{path / README} was not written by neva_tl: move it first")
        say(f"written: {path / README}")
        return
    from neva_tl.study.analyses.reopened_run import Run

    run = Run.open(path)
    if value is None or method is None or out is None:
        raise InputError(
            f"name an edit of {path} and its folder: --value ({', '.join(run.values())}), --method "
            f"({', '.join(run.methods())}), --out"
        )
    folder = run.save_edit(value, method, out, target=gain, model=run.load_model(model))
    say(f'written: {folder}; try: neva-tl generate --edit {folder} "..."')
