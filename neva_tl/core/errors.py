"""The two ways neva_tl says no: the input was wrong, or the work failed.

The command line turns them into one line on stderr and an exit status; everything else is a bug and keeps its traceback.
"""


class NevaError(Exception):
    """Base of every error that neva_tl raises on purpose; the message is one line a user can act on."""

    exit_code = 1


class InputError(NevaError, ValueError):
    """Bad input or wrong usage: says what is wrong, where, and how to mend it (exit status 2)."""

    exit_code = 2


class WorkError(NevaError, RuntimeError):
    """The input was fine and the work failed all the same (exit status 1)."""

    exit_code = 1
