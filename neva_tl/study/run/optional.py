"""Optional parts of a study, which are left out with a reason where they cannot be made.

Statistics, neurons, edits and the headline's measurements are not optional: there an error stops the study. A reason is a file
of the run folder, `left_out/PART.json`, so that several processes can write them and a resumed run keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from neva_tl.core.errors import InputError, reason_of
from neva_tl.core.messages import notice
from neva_tl.study.run.run_folder import RunFolder

#: Folder of a run folder with one file per part that was left out.
FOLDER = "left_out"


@contextmanager
def optional(store: RunFolder, part: str, *, errors: tuple[type[Exception], ...] = (InputError,)) -> Iterator[None]:
    """Leave a part of a study out where it raises an error of these classes, and record the reason.

    A part that works removes the reason of an earlier attempt.

    Args:
        store: The run folder.
        part: Name of the part, as the report prints it.
        errors: Classes of errors that leave the part out. InputError means that the part does not fit this model or these
            texts; WorkError (a judge that failed, for example) stops the study by default, because a later call can resume it.
            Figures take Exception: no fault in a drawing is worth a study.
    """
    try:
        yield
    except errors as error:
        leave_out(store, part, reason_of(error))
    else:
        bring_back(store, part)


def leave_out(store: RunFolder, part: str, reason: str) -> None:
    """Record that a part was left out, and print it in one line on stderr (once per folder and reason).

    Args:
        store: The run folder.
        part: Name of the part.
        reason: One sentence, without its final stop.
    """
    record = {"part": part, "reason": " ".join(reason.split()).rstrip(".")}
    if store.has(_file(part)) and store.read_json(_file(part)) == record:
        return
    store.write_json(_file(part), record)
    notice(f"left out: {line_of(record)}")


def bring_back(store: RunFolder, part: str) -> None:
    """Remove the reason of a part that an earlier attempt left out.

    Args:
        store: The run folder.
        part: Name of the part.
    """
    if was_left_out(store, part):
        store.write_json(_file(part), {"part": part, "reason": None})


def was_left_out(store: RunFolder, part: str) -> bool:
    """Return whether the run folder has a reason for a part.

    Args:
        store: The run folder.
        part: Name of the part.
    """
    return store.has(_file(part)) and store.read_json(_file(part))["reason"] is not None


def left_out(store: RunFolder) -> list[dict[str, str]]:
    """Return the parts that were left out with their reasons, sorted by part.

    Args:
        store: The run folder.

    Returns:
        `{part, reason}` of each.
    """
    files = sorted((store.root / FOLDER).glob("[!.]*.json"))
    records = [store.read_json(f"{FOLDER}/{file.name}") for file in files]
    return sorted((record for record in records if record["reason"] is not None), key=lambda record: record["part"])


def line_of(record: dict[str, str]) -> str:
    """Format a part and its reason as one line.

    Args:
        record: An entry of `left_out`.
    """
    return f"{record['part']}: {record['reason']}"


def _file(part: str) -> str:
    return f"{FOLDER}/{re.sub(r'[^a-z0-9]+', '_', part.lower()).strip('_')}.json"
