"""The `neva-tl` application: its commands in order, and its error handling.

Thin over the API. Exit status 0: success; 1: the work failed; 2: wrong usage or bad input. An error is one line on stderr,
without a traceback unless `--debug`. Heavy imports happen inside the commands, so that `--help` responds at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import typer

from neva_tl.cli.options import say
from neva_tl.core.errors import NevaError

#: Modules of this package that hold the commands, in the order of `--help`; each has `register(app)`.
MODULES: tuple[str, ...] = (
    "run",
    "verify",
    "select_neurons",
    "generate",
    "leakage",
    "layers",
    "circuit",
    "train_demo",
    "collect",
    "annotate",
    "capability",
    "judges",
    "profile",
)

app = typer.Typer(
    name="neva-tl",
    help="Find, edit and measure the neurons that carry human values in language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

#: Exit status of a command that the user stopped (128 + SIGINT).
STOPPED = 130

for name in MODULES:
    importlib.import_module(f"neva_tl.cli.{name}").register(app)


def main(argv: list[str] | None = None) -> None:
    """Run a command, and turn an error into one line and an exit status.

    Args:
        argv: Arguments of the command line; None takes those of the process.

    Raises:
        SystemExit: Always, with the exit status.
        NevaError: With `--debug`, the error of the command.
    """
    # tokenizers otherwise forks with threads and prints a warning into the progress bars
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments
    try:
        status = app(args=arguments, prog_name="neva-tl", standalone_mode=False)
        if status == STOPPED:  # typer's return value after Ctrl-C
            raise KeyboardInterrupt
    except NevaError as error:
        if debug:
            raise
        say(f"neva-tl: {_one_line(error)}")
        status = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        say("neva-tl: stopped; run the same command again to resume")
        status = STOPPED
    except Exception as error:
        if hasattr(error, "format_message"):
            _say_usage(error)
            sys.exit(2)
        if debug:
            raise
        say(f"neva-tl: {type(error).__name__}: {_one_line(error)} (rerun with --debug for the traceback)")
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _say_usage(error: Any) -> None:
    """Print a usage error in one line.

    Args:
        error: An error of click. typer may bring its own copy of click, so the class depends on typer's version.
    """
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "neva-tl"
    message = error.format_message()
    if message:  # empty when the bare command printed its help
        say(f"{command}: {message} (see {command} --help)")


if __name__ == "__main__":
    main()
