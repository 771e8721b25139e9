"""Atomic writes (a file appears complete or not at all), file names, JSON and tensors read with one-line errors."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from neva_tl.core import ledger
from neva_tl.core.errors import InputError

#: Suffix of the temporary folder used during a write.
ENDING = ".tmp"
#: Suffixes of artefacts that are two files, metadata and tensors.
PAIR = (".json", ".safetensors")
#: Exceptions that the parsers of JSON and safetensors raise on damaged content.
DAMAGED = (SafetensorError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, MemoryError)


def remove_stale_tmp(target: Path) -> None:
    """Remove temporary folders that killed processes left for a target; keeps those of running processes.

    Args:
        target: File whose temporary folders are looked for. Process ids are those of this machine.
    """
    for folder in target.parent.glob(f".{escape(target.name)}.*{ENDING}"):
        number = folder.name.removeprefix(f".{target.name}.").removesuffix(ENDING)
        if number.isdigit() and not _alive(int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process of another user
        return True
    return True


@contextmanager
def atomic_write(target: Path, *, recorded: bool = True) -> Iterator[Path]:
    """Yield a temporary path that replaces the target when the block succeeds and is removed when it raises.

    The temporary file has the target's name, in a temporary folder next to the target: writers choose their format by the
    suffix, and some (safetensors) create further files next to their output. A killed process leaves that folder: the next
    write of the same target removes it, as `RunFolder.open` does for a run folder. Below a run folder, the ledger gets a line.

    Args:
        target: File to write; its folder must exist.
        recorded: Whether the run's ledger gets a line; False for files that check themselves.

    Yields:
        The temporary path.

    Raises:
        FileNotFoundError: The block wrote no file.
    """
    remove_stale_tmp(target)
    folder = target.with_name(f".{target.name}.{os.getpid()}{ENDING}")
    folder.mkdir(exist_ok=True)
    try:
        yield folder / target.name
        if recorded:
            ledger.record(target, folder / target.name)
        os.replace(folder / target.name, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_output(path: str | Path) -> None:
    """Check that a file can be written, before the work that produces it. Leaves nothing on disk.

    Args:
        path: The file; its folders may be missing.

    Raises:
        InputError: The path names no file, is a folder or a device, or its folder cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"cannot write {str(path)!r}: it is a folder; name a file")
    if path.name in ("", ".."):
        raise InputError(f"cannot write {str(path)!r}: it names no file")
    if path.exists() and not path.is_file():
        raise InputError(f"cannot write {str(path)!r}: it is a device, not a file")
    _check_writable(path, path.absolute().parents)


def check_output_pair(path: str | Path) -> None:
    """Check that an artefact of two files can be written; see `check_output`.

    Args:
        path: See `without_suffix`.

    Raises:
        InputError: The path is a folder or has no name, or one of the files cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"cannot write {str(path)!r}: it is a folder; name a file in it, without suffix")
    if path.exists() and not path.is_file():
        raise InputError(f"cannot write {str(path)!r}: it is a device, not a file")
    for file in file_pair(path):
        check_output(file)


def check_output_folder(path: str | Path) -> None:
    """Check that a folder can be created or written, before the work that fills it. Leaves nothing on disk.

    Args:
        path: The folder; it and its parents may be missing.

    Raises:
        InputError: The path is a file, a device or the root folder, or it cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a {'file' if path.is_file() else 'device'}: name a folder")
    if path.absolute() == Path(path.absolute().anchor):
        raise InputError(f"cannot write into {str(path)!r}, the root folder: name a folder in it")
    _check_writable(path, (path.absolute(), *path.absolute().parents))


def check_own_folder(
    path: str | Path, markers: Sequence[str], what: str, remedy: str = "choose another --out, or delete the folder"
) -> None:
    """Check as `check_output_folder` does, and that a folder with content is one of ours.

    Args:
        path: The folder.
        markers: Files one of which shows that the folder is ours.
        what: Name of its content.
        remedy: What the user can do else.

    Raises:
        InputError: See `check_output_folder`; or the folder has content, and none of the files.
    """
    path = Path(path)
    check_output_folder(path)
    if path.is_dir() and any(path.iterdir()) and not any((path / name).is_file() for name in markers):
        raise InputError(f"{path} is not empty and holds no {what}: {remedy}")


@contextmanager
def writing_into(folder: Path, what: str) -> Iterator[None]:
    """Create a folder and write into it inside the block.

    Args:
        folder: The folder.
        what: What is written, for the message.

    Raises:
        InputError: The folder or a file in it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(f"cannot write {what} to {folder} ({error.strerror}): choose another folder") from error


def _check_writable(path: Path, folders: Sequence[Path]) -> None:
    """Write a block into the nearest existing folder; permission bits alone do not show full disks and special folders."""
    # lexists: a dangling link is in the way of a folder
    existing = next(folder for folder in folders if os.path.lexists(folder))
    if not existing.is_dir():
        raise InputError(f"cannot write {path}: {existing} is a file, not a folder")
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise InputError(f"cannot write {path}: {existing} is not writable ({error.strerror or error})") from error


def to_json(data: Any) -> Any:
    """Clean data for JSON: NaN and infinities become None, NumPy scalars become Python's.

    Args:
        data: Mappings, sequences and scalars, nested at will.

    Returns:
        The same structure of dicts (keys as strings), lists and plain scalars.
    """
    if isinstance(data, Mapping):
        return {str(key): to_json(item) for key, item in data.items()}
    if isinstance(data, (list, tuple)):
        return [to_json(item) for item in data]
    if hasattr(data, "item") and not isinstance(data, (str, bytes)):
        data = data.item()
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data


def without_suffix(path: str | Path) -> Path:
    """Remove `.json` or `.safetensors` from the end of a path; every other dot belongs to the name (`llama-3.1`).

    Args:
        path: Name of an artefact of two files, or of either file.
    """
    path = Path(path)
    return path.with_name(path.name.removesuffix(path.suffix)) if path.suffix in PAIR else path


def file_pair(path: str | Path) -> tuple[Path, Path]:
    """Return the JSON file and the safetensors file of an artefact.

    Args:
        path: See `without_suffix`.

    Raises:
        InputError: The path has no name ("", ".", "/").
    """
    stem = without_suffix(path)
    if not stem.name or stem.name == "..":
        raise InputError(f"{str(path)!r} names no file: give a path without suffix, as in runs/power")
    json_file, tensor_file = (stem.with_name(stem.name + suffix) for suffix in PAIR)
    return json_file, tensor_file


def existing_pair(path: str | Path, kind: str) -> tuple[Path, Path]:
    """Return both files of an artefact after checking that they exist.

    Args:
        path: See `without_suffix`.
        kind: The artefact in messages, e.g. "a neuron set is".

    Raises:
        InputError: One of the files is missing or is a folder, or was changed since its run wrote it.
    """
    pair = file_pair(path)
    for file in pair:
        if not file.is_file():
            # version 0.1 cut every name at its last dot
            stem = without_suffix(path)
            short = file_pair(stem.with_suffix(""))[0] if stem.suffix else None
            hint = f"; {short} exists, under the name that 0.1 gave: load that one" if short and short.is_file() else ""
            raise InputError(f"{file} does not exist: {kind} a .json and a .safetensors side by side{hint}")
        ledger.check(file)
    return pair


def read_json(path: Path, kind: str) -> dict[str, Any]:
    """Read a JSON object in UTF-8.

    Args:
        path: The file.
        kind: The expected content in messages, e.g. "a neuron set written by neva_tl".

    Raises:
        InputError: The file cannot be read, was changed since its run wrote it, is not UTF-8, or does not hold a JSON object that
            UTF-8 can write.
    """
    content = ledger.checked_bytes(path)
    try:
        data = parse_json(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not {kind} (not UTF-8 text: {error.reason})") from error
    except InputError as error:
        raise InputError(f"{path} is not {kind} ({error})") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} is not {kind} (a JSON object is expected, not {type(data).__name__})")
    return data


def parse_json(text: str) -> Any:
    """Parse JSON.

    Args:
        text: The text.

    Raises:
        InputError: The text is not JSON, is nested too deeply, or holds a lone surrogate, which no file can store.
    """
    try:
        data = json.loads(text)
        # only an escape of a surrogate can bring one in
        if "\\ud" in text or "\\uD" in text:
            json.dumps(data, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON ({error.msg})") from error
    except UnicodeEncodeError as error:
        raise InputError("a text holds half of a surrogate pair, which is not a character") from error
    except RecursionError as error:
        raise InputError("not readable JSON: nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(f"not readable JSON: {first_line(error)}") from error
    return data


def read_tensors(content: bytes, path: Path, kind: str) -> dict[str, np.ndarray]:
    """Parse the content of a safetensors file.

    Args:
        content: Bytes of the file.
        path: The file, for messages.
        kind: See `read_json`.

    Raises:
        InputError: The content is damaged, or has a number format that NumPy lacks.
    """
    try:
        return load(content)
    except DAMAGED as error:
        raise InputError(f"{path} is not {kind} ({first_line(error)})") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its class name.

    Args:
        error: The exception.
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
