"""`neva-tl compare`: two finished runs in one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli.options import Debug, Quiet, Verbose, path_of
from neva_tl.core.errors import InputError
from neva_tl.core.messages import say

#: Suffixes of a page.
SUFFIXES = (".html", ".htm")


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(compare)


def compare(
    run: Annotated[Path, typer.Argument(parser=path_of, metavar="RUN", help="run folder")],
    other: Annotated[Path, typer.Argument(parser=path_of, metavar="OTHER", help="run folder to compare it with")],
    out: Annotated[Path, typer.Option("--out", parser=path_of, metavar="PATH", help="the page, x.html")] = Path(
        "compare.html"
    ),
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Compare two finished runs in one page: settings, measures, neurons and texts; nothing is measured."""
    from neva_tl.core.files import check_output
    from neva_tl.study.analyses.compare_runs import compare_runs
    from neva_tl.study.report.compare import sentences

    check_output(out)
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot write the page {out.name!r}: use {' or '.join(SUFFIXES)}")
    comparison = compare_runs(run, other)
    path = comparison.save(out)
    for line in sentences(comparison):
        print(line)
    say(f"written: {path}")
