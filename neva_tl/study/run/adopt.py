"""Reuse of results that precede any edit, for studies that differ in their gate."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write
from neva_tl.core.ledger import check
from neva_tl.study.run.changed_files import ASIDE, start_ledger
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.run_folder import RunFolder

#: Files that do not depend on any edit: statistics, neurons, circuits, the cells of the unedited model.
SHARED = (
    "stats",
    "neurons",
    "circuits",
    "cells/unit.*",
    "cells/base.*",
    *(f"tables/{n}.*" for n in ("neurons", "effects", "circuit", "circuits")),
)


def adopt(store: RunFolder, identity: Mapping[str, Any], source: str | Path) -> int:
    """Copy the results that precede any edit from another study's run folder.

    The two studies may differ in gate, methods and target gains only. Existing files stay as they are; files that the source
    lacks are measured as usual.

    Args:
        store: The run folder to copy into.
        identity: Its manifest (`stages.manifest`).
        source: The run folder to copy from.

    Returns:
        Number of files copied.

    Raises:
        InputError: The source is not a run folder, belongs to another study, or has a file that was changed.
    """
    source_folder = RunFolder(Path(source))
    if not source_folder.has("manifest.json"):
        raise InputError(f"{source} is not a run folder: name one that `neva-tl run --out` wrote, or leave it out")
    source_manifest = source_folder.read_json("manifest.json")
    if _unedited(source_manifest) != _unedited(identity):
        raise InputError(f"{source} differs from this study in more than gate, methods and target gains: leave it out")
    copied = 0
    start_ledger(store.root)
    for file in _shared_files(source_folder.root):
        name = str(file.relative_to(source_folder.root))
        if not store.has(name):
            check(file)
            with atomic_write(store.path(name)) as copy:
                shutil.copyfile(file, copy)
            copied += 1
    return copied


def _unedited(manifest: Mapping[str, Any]) -> str:
    """Return the identity of a study without its edits."""
    config = StudyConfig.from_manifest(manifest["config"])
    overrides = {name: value for name, value in config.overrides.items() if name != "targets"}
    _, _, rest = str(manifest["study"]).partition("-")  # weights, prompts, world
    return f"{replace(config, gate='none', overrides=overrides).hash()}-{rest}"


def _shared_files(root: Path) -> list[Path]:
    """List the shared files, JSON last: its presence marks its tables as complete."""
    files = [
        file
        for name in SHARED
        for folder in root.glob(name)
        for file in (folder.rglob("*") if folder.is_dir() else [folder])
    ]
    complete = [file for file in files if file.is_file() and not file.name.startswith(".") and ASIDE not in file.name]
    return sorted(complete, key=lambda file: (file.suffix == ".json", file))
