"""The names that examples in docstrings start from: CONTRIBUTING.md lists them, and its lines make them here."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import FIXTURES, ROOT

SECTION = re.compile(r"^## Examples in docstrings$.*?^```python$\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="session")
def documented_names() -> dict[str, Any]:
    """Model, pairs, statistics, neurons and an edit; made once, and not to be changed by an example."""
    match = SECTION.search((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert match is not None
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(match[1], "CONTRIBUTING.md", "exec"), names)
    return names


@pytest.fixture(scope="session")
def _finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of the demo model: figures that examples write stay out of the checkout."""
    return Path(shutil.copytree(FIXTURES / "v0.1" / "run", tmp_path_factory.mktemp("examples") / "run"))


@pytest.fixture
def namespace(
    documented_names: dict[str, Any], _finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """A copy of the names, in a working folder of its own with a `run`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / documented_names["run"]).symlink_to(_finished_run, target_is_directory=True)
    return dict(documented_names)
