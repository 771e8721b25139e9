"""Errors that neva_tl raises on purpose: bad input, and work that failed.

The command line turns them into one line on stderr and an exit status; every other exception is a bug and keeps its traceback.
"""


class NevaError(Exception):
    """Base of all errors that neva_tl raises on purpose; the message is one line that a user can act on.

    Example:
        >>> try:
        ...     nv.prompts.load("nowhere.csv")
        ... except nv.NevaError as error:
        ...     print(type(error).__name__, error.exit_code)
        InputError 2
    """

    exit_code = 1


class InputError(NevaError, ValueError):
    """Bad input or wrong usage (exit status 2); the message names the problem, its position and the fix.

    Example:
        >>> nv.values.value("powr")
        Traceback (most recent call last):
            ...
        neva_tl.core.errors.InputError: unknown value 'powr': did you mean 'power'? the values of the ...
    """

    exit_code = 2


class WorkError(NevaError, RuntimeError):
    """Work that failed although the input was valid (exit status 1).

    Example:
        >>> issubclass(nv.WorkError, nv.NevaError), nv.WorkError.exit_code
        (True, 1)
    """

    exit_code = 1


def reason_of(error: Exception) -> str:
    """Return the message of an error in one line; one that is not ours begins with the name of its class.

    Args:
        error: The error.
    """
    text = " ".join(str(error).split())
    return text if isinstance(error, NevaError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")
