"""The run folder: finished results as files, so that a killed run resumes.

A result is a JSON file, or a table as parquet and CSV. Every write is atomic: to a temporary name, then renamed. The ledger
records each of them (`core.ledger`), and a file that was changed since then is refused where it is read.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.core.files import ENDING, atomic_write, first_line, parse_json, read_json, to_json
from neva_tl.core.ledger import LEDGER, checked_bytes
from neva_tl.core.locks import is_lock
from neva_tl.study.run import changed_files


@dataclass(frozen=True)
class RunFolder:
    """A run folder.

    Attributes:
        root: Its path.
    """

    root: Path

    @classmethod
    def open(cls, root: str | Path, identity: Mapping[str, Any]) -> RunFolder:
        """Open or create a run folder for one study.

        A changed or missing manifest is restored from the ledger. In an unfinished run, other changed files are set aside (see
        `repair`).

        Args:
            root: Path of the folder.
            identity: The study's manifest.

        Raises:
            InputError: The folder belongs to another study, or is not a run folder.
        """
        root = Path(root)
        if root.exists() and not root.is_dir():
            raise InputError(f"{root} is a file: name a folder for the run")
        manifest = root / "manifest.json"
        changed_files.restore_manifest(root)
        manifest_data: dict[str, Any] = {}
        if manifest.exists():
            try:
                manifest_data = read_json(manifest, "a manifest")
            except InputError as error:
                raise InputError(f"{error}: choose another --out") from error
            changed = _model_difference(manifest_data, identity)
            if manifest_data.get("study") != identity["study"] or changed:
                raise InputError(another_study(root, manifest_data, identity, changed))
        elif root.exists() and any(is_content(entry) for entry in root.iterdir()):
            raise InputError(
                f"{root} is not empty and holds no manifest.json: choose another --out, or delete the folder"
            )
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the run folder {root} ({error.strerror}): choose another --out") from error
        for stale in list(root.rglob(f".*{ENDING}")):  # temporary files of a killed run
            shutil.rmtree(stale, ignore_errors=True)
        store = cls(root)
        if manifest_data:
            changed_files.note_unchecked(root)
        if manifest_data.get("finished") is not True:
            store.repair()
        return store

    def repair(self) -> tuple[str, ...]:
        """Set changed files aside, so that they are made again.

        Returns:
            Names of the files to make again: changed, or missing.
        """
        return changed_files.repair(self.root)

    def path(self, name: str) -> Path:
        """Return the path of a file, and create its parent folder.

        Args:
            name: Path within the run folder.
        """
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def has(self, name: str) -> bool:
        """Return whether a file exists, which means that it is complete.

        Args:
            name: Path within the run folder.
        """
        return (self.root / name).exists()

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file atomically. The manifest starts the folder's ledger.

        Args:
            name: Path within the run folder.
            text: Content.
        """
        path = self.path(name)
        if name == "manifest.json":
            changed_files.start_ledger(self.root)
        with atomic_write(path) as file:
            file.write_text(text, encoding="utf-8")
        return path

    def write_json(self, name: str, data: Any) -> Path:
        """Write JSON atomically; numbers that are not finite become null.

        Args:
            name: Path within the run folder.
            data: Content.
        """
        return self.write_text(name, json.dumps(to_json(data), indent=1, allow_nan=False))

    def read_json(self, name: str) -> Any:
        """Read a JSON file.

        Args:
            name: Path within the run folder.

        Raises:
            InputError: The file is missing, was changed since it was written, or is not JSON.
        """
        path = self.root / name
        try:
            return parse_json(checked_bytes(path).decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 text ({error.reason})") from error
        except InputError as error:
            raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error

    def write_table(self, name: str, df: pd.DataFrame, csv: bool = True) -> Path:
        """Write a table atomically, as `NAME.parquet` and `NAME.csv`.

        Args:
            name: Path within the run folder, without an ending.
            df: The table.
            csv: Whether to write the CSV file too.
        """
        path = self.path(f"{name}.parquet")
        if csv:
            self.write_text(f"{name}.csv", df.to_csv(index=False))
        with atomic_write(path) as file:
            df.to_parquet(file, index=False)
        return path

    def read_table(self, name: str) -> pd.DataFrame:
        """Read a table.

        Args:
            name: Path within the run folder, without an ending.

        Raises:
            InputError: The file is missing, was changed since it was written, or is not a table.
        """
        path = self.root / f"{name}.parquet"
        data = checked_bytes(path)
        try:
            return pd.read_parquet(io.BytesIO(data))
        except Exception as error:
            raise InputError(f"{path} is not a parquet table ({first_line(error)})") from error


def _model_difference(stored: Mapping[str, Any], requested: Mapping[str, Any]) -> str:
    """Describe another function with the same main weights; empty where one side does not record it."""
    from neva_tl.models import function_difference

    old, new = stored.get("model"), requested.get("model")
    return function_difference(old, new) if isinstance(old, Mapping) and isinstance(new, Mapping) else ""


def is_content(entry: Path) -> bool:
    """Test whether an entry of a folder is more than the ledger, the lock or a temporary file of a killed run.

    Args:
        entry: Its path.
    """
    return entry.name != LEDGER and not is_lock(entry.name) and not entry.name.endswith(ENDING)


def another_study(root: str | Path, stored: Mapping[str, Any], requested: Mapping[str, Any], changed: str = "") -> str:
    """Describe why a run folder belongs to another study.

    Args:
        root: The folder.
        stored: Its manifest.
        requested: The manifest of the study.
        changed: The difference, where it is known.
    """
    changed = changed or _difference(stored, requested)
    return f"{root} belongs to another study ({changed}): choose another --out, or delete the folder"


def _difference(stored: Mapping[str, Any], requested: Mapping[str, Any]) -> str:
    """Describe the differences between two studies."""
    old, new = _mapping(stored, "config"), _mapping(requested, "config")
    differences = [f"{name} was {old.get(name)!r}, now {new[name]!r}" for name in new if old.get(name) != new[name]]
    if stored.get("prompt_hash") != requested.get("prompt_hash"):
        differences.append("other prompt texts")
    if _mapping(stored, "model").get("weights_hash") != _mapping(requested, "model").get("weights_hash"):
        differences.append("other model weights")
    if stored.get("template", {}) != requested.get("template", {}):
        differences.append("another chat template, or its date or arguments")
    return ", ".join(differences) or "other profile settings"


def _mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a section of a manifest; empty where it is missing or is not an object."""
    section = data.get(name)
    return section if isinstance(section, Mapping) else {}
