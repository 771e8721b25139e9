"""`neva-tl report`: write the page of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli.options import Debug, Quiet, Verbose, path_of
from neva_tl.core.messages import notice, say


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(report)


def report(
    run: Annotated[Path, typer.Argument(parser=path_of, metavar="RUN", help="run folder")],
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Write the figures and the report of a run again, from its tables; nothing is measured."""
    from neva_tl.core.locks import lock_folder
    from neva_tl.plots.files import write_figures
    from neva_tl.study.analyses.reopened_run import Run
    from neva_tl.study.report import write_report

    finished = Run.open(run)
    failed: dict[str, str | None] = {}
    with lock_folder(finished.store.root):
        write_figures(finished.store.root, failed=failed)
        for name, reason in failed.items():
            if reason is not None:
                notice(f"left out: Figure {name}: {reason}")
        say(f"report: {write_report(finished.store.root)}")
