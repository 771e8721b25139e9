"""Reading of a run folder for a paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.core.files import read_json
from neva_tl.plots.files import read_table
from neva_tl.plots.style import plain_numbers
from neva_tl.study.run.config import Profile, StudyConfig


@dataclass(frozen=True)
class Sources:
    """What a paper's files are written from.

    Attributes:
        run: The run folder.
        results: Content of results.json.
        manifest: Content of manifest.json.
        config: The study's settings.
        profile: Its budget.
        tables: Name -> table, with numbers as floats.
    """

    run: Path
    results: Mapping[str, Any]
    manifest: Mapping[str, Any]
    config: StudyConfig
    profile: Profile
    tables: Mapping[str, pd.DataFrame]

    @property
    def methods(self) -> list[str]:
        """Measured methods, in the order of the headline."""
        return list(self.results["methods"])

    @property
    def values(self) -> list[str]:
        """Steered values, in the order of their theory."""
        return [str(name) for name in self.config.values or self.results["values"]]

    @property
    def main(self) -> str:
        """The method of the headline: `neva` where it was measured, else the first."""
        return "neva" if "neva" in self.methods else self.methods[0]

    @property
    def target(self) -> float | None:
        """The matched gain of the headline; None where no method has one."""
        targets = [entry.get("target_gain") for entry in self.results["methods"].values()]
        return max((float(target) for target in targets if target is not None), default=None)


def read_sources(run: str | Path) -> Sources:
    """Read results, manifest and all tables of a finished run.

    Args:
        run: The run folder.

    Raises:
        InputError: The folder is not that of a finished run, or a file was changed since it was written.
    """
    run = Path(run)
    results, manifest = (_json(run / name) for name in ("results.json", "manifest.json"))
    if not results.get("methods") or "config" not in manifest:
        raise InputError(f"{run} has no measured methods: give the folder that `neva-tl run --out` wrote")
    config = StudyConfig.from_manifest(manifest["config"])
    names = sorted(path.stem for path in (run / "tables").glob("*.parquet"))
    tables = {name: plain_numbers(read_table(run, name)) for name in names}
    return Sources(run, results, manifest, config, config.spending(), tables)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path} does not exist: give the folder of a finished run (neva-tl run --out {path.parent})")
    return read_json(path, "JSON of a finished run: run the same neva-tl run again")
