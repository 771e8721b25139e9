"""A made-up run folder for figures and report (see fake_run.py)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("neva_fake_run", Path(__file__).with_name("fake_run.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """The generators of made-up tables."""
    return _module()


@pytest.fixture
def run(fake: ModuleType, tmp_path: Path) -> Path:
    """A whole made-up run folder."""
    return fake.write_run(tmp_path / "run")
