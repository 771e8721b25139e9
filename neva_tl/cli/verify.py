"""`neva-tl verify`: comparison of a run folder's files with its ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from neva_tl.cli.options import Debug, Json, Quiet, Verbose, path_of
from neva_tl.cli.tables import print_table
from neva_tl.core.messages import say


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(verify)


def verify(
    run: Annotated[Path, typer.Argument(parser=path_of, metavar="RUN", help="run folder, for example runs/demo")],
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Find the files of a run folder that were changed since they were written.

    Exits with 0 if every file is good, else with 1. Nothing is written.
    """
    from neva_tl.study.run.changed_files import note_unchecked, verify

    table = verify(run)
    note_unchecked(run)
    counts = {state: int((table["state"] == state).sum()) for state in ("good", "changed", "missing", "unknown")}
    bad = table[table["state"] != "good"]
    if as_json:
        print(json.dumps({"run": str(run), **counts, "files": table.to_dict("records")}))
    else:
        if len(bad):
            print_table(bad)
        print(", ".join(f"{count} {state}" for state, count in counts.items()))
    if counts["changed"] or counts["missing"]:
        say(f"the `neva-tl run` that wrote {run}, run again, sets changed files aside and makes files again")
    if len(bad):
        raise typer.Exit(1)
