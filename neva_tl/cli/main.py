"""The `neva-tl` application: its commands in order, and its error handling.

Thin over the API. Exit status 0: success; 1: the work failed; 2: wrong usage or bad input. An error is one line on stderr,
without a traceback unless `--debug`. `--quiet`, `--verbose` and `--debug` work before and after the command. Heavy imports
happen inside the commands, so that `--help` responds at once.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from neva_tl.cli.options import Debug, Quiet, Verbose
from neva_tl.core.errors import InputError, NevaError
from neva_tl.core.messages import Level, at_level, long_steps, notice

#: Modules of this package that hold the commands, in the order of `--help`; each has `register(app)`.
MODULES: tuple[str, ...] = (
    "run",
    "verify",
    "report",
    "compare",
    "paper",
    "inspect_artefact",
    "card",
    "select_neurons",
    "steer",
    "bake",
    "generate",
    "export",
    "chat",
    "leakage",
    "layers",
    "circuit",
    "train_demo",
    "collect",
    "prompts",
    "annotate",
    "capability",
    "judges",
    "profile",
    "models",
    "cache",
)

app = typer.Typer(
    name="neva-tl",
    help="Find, edit and measure the neurons that carry human values in language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

#: Error numbers of disks that are full, over their quota or read-only.
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
#: Exit status of a command that the user stopped (128 + SIGINT).
STOPPED = 130


@app.callback()
def shared_options(quiet: Quiet = False, verbose: Verbose = False, debug: Debug = False) -> None:
    """Accept the options that every command has before the command too."""


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
    for argument in arguments:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            notice(
                f"neva-tl: the argument {argument!a} is not UTF-8: write it in UTF-8 (a file of that name: rename it)"
            )
            sys.exit(2)
    notes: list[str] = []
    try:
        # loops without a bar of their own show one where they take long
        with at_level(Level.NORMAL), long_steps(True), _collect_warnings(notes, debug):
            status = app(args=arguments, prog_name="neva-tl", standalone_mode=False)
        if status == STOPPED:  # typer's return value after Ctrl-C
            raise KeyboardInterrupt
        _say_notes(notes)
    except NevaError as error:
        if debug:
            raise
        if error.exit_code != InputError.exit_code:  # nothing was done on bad input: its line is the only one
            _say_notes(notes)
        notice(f"neva-tl: {_one_line(error)}")
        status = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _say_notes(notes)
        notice("neva-tl: stopped; run the same command again to resume")
        status = STOPPED
    except Exception as error:
        if hasattr(error, "format_message"):
            _say_usage(error)
            sys.exit(2)
        if debug:
            raise
        _say_notes(notes)
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            notice(
                f"neva-tl: cannot write {error.filename or 'a file'}: {error.strerror} (then run the same command again)"
            )
            sys.exit(1)
        notice(f"neva-tl: {type(error).__name__}: {_one_line(error)} (rerun with --debug for the traceback)")
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


@contextmanager
def _collect_warnings(notes: list[str], debug: bool) -> Iterator[None]:
    """Collect warnings inside the block: a library's warning would precede an error's line.

    Args:
        notes: List that receives one line per warning, without repetitions.
        debug: Show warnings at once, with their position.
    """
    if debug:
        yield
        return

    def collect(message: Warning | str, *_: Any, **__: Any) -> None:
        line = " ".join(str(message).split())
        if line not in notes:
            notes.append(line)

    before = warnings.showwarning
    warnings.showwarning = collect
    try:
        yield
    finally:
        warnings.showwarning = before


def _say_notes(notes: list[str]) -> None:
    """Print the collected warnings, one line each."""
    for line in notes:
        notice(f"warning: {line}")
    notes.clear()


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
        notice(f"{command}: {message} (see {command} --help)")


if __name__ == "__main__":
    main()
