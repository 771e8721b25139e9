"""A made-up run folder for figures and report (see fake_run.py)."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from neva_tl.models.tiny import load_module


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """The generators of made-up tables."""
    return load_module(Path(__file__).with_name("fake_run.py"))


@pytest.fixture
def run(fake: ModuleType, tmp_path: Path) -> Path:
    """A whole made-up run folder."""
    return fake.write_run(tmp_path / "run")
