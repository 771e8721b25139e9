"""Command line of the scripts in figures/: one figure of a paper each, drawn from the tables of a run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from neva_tl.core.errors import NevaError
from neva_tl.core.messages import notice
from neva_tl.plots.files import MissingTable, run_theory
from neva_tl.plots.journal import Style
from neva_tl.plots.style import save_figure
from neva_tl.plots.value_names import using_theory

#: Folder of a paper's files in a run folder, where `neva-tl paper` writes its LaTeX too.
FOLDER = "paper"
#: Journals and conferences that figures can be drawn for.
STYLES: tuple[Style, ...] = ("icml", "neurips", "acl", "nature")

#: A figure of a paper: from the run folder and the name of a style.
Draw = Callable[[Path, Style], Figure]


def usable(table: pd.DataFrame, lacks: Callable[[pd.DataFrame], str]) -> pd.DataFrame:
    """Return a table that can have a figure.

    Args:
        table: the table.
        lacks: function to the reason why it cannot have the figure ("" where it can), for example `needs.lacks_others`.

    Raises:
        MissingTable: It cannot; the message is the reason.
    """
    if reason := lacks(table):
        raise MissingTable(reason)
    return table


def script(file: str, draw: Draw, argv: list[str] | None = None) -> int:
    """Run the command line of a script in figures/: draw one figure, write it as PDF and PNG.

    Args:
        file: path of the script; its name is that of the figure.
        draw: the figure.
        argv: arguments of the command line; None takes those of the process.

    Returns:
        The exit status: 0, also with `--skip-missing` where a table is missing; else that of the error, which is printed in
        one line.
    """
    name = Path(file).stem
    parser = argparse.ArgumentParser(
        description=f"Draw {name} from the tables of a run: RUN/{FOLDER}/{name}.pdf and .png"
    )
    parser.add_argument("run", type=Path, help="run folder, for example runs/demo")
    parser.add_argument(
        "--style", choices=STYLES, default=STYLES[0], help="journal or conference (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help=f"folder of the figure; default: RUN/{FOLDER}")
    parser.add_argument(
        "--skip-missing", action="store_true", help="exit with 0 where the run has no table for the figure"
    )
    args = parser.parse_args(argv)
    try:
        with using_theory(run_theory(args.run)):
            figure = draw(args.run, args.style)
        for path in save_figure(figure, (args.out or args.run / FOLDER) / name):
            print(path)
    except MissingTable as error:
        if args.skip_missing:
            print(f"{name}: not drawn, {error}")
            return 0
        notice(f"{name}: {error}")
        return error.exit_code
    except NevaError as error:
        notice(f"{name}: {error}")
        return error.exit_code
    return 0
