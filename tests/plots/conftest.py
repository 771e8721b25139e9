"""A made-up run folder for figures (see helpers/fake_run.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import fake_run as fake


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A whole made-up run folder."""
    return fake.write_run(tmp_path / "run")
