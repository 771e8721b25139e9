"""`neva-tl paper`: LaTeX tables, captions, methods and BibTeX of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli.options import Debug, Quiet, Verbose, path_of
from neva_tl.core.messages import say


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(paper)


def paper(
    run: Annotated[Path, typer.Argument(parser=path_of, metavar="RUN", help="run folder")],
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Write LaTeX tables, captions, a methods paragraph and BibTeX of a run into RUN/paper; nothing is measured.

    `make figures RUN=...` (or `python figures RUN`) draws the figures into the same folder.
    """
    from neva_tl.core.locks import lock_folder
    from neva_tl.study.analyses.reopened_run import Run
    from neva_tl.study.paper import write_paper

    finished = Run.open(run)
    with lock_folder(finished.store.root):
        for path in write_paper(finished.store.root):
            say(f"written: {path}")
