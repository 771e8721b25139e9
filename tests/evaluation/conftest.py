"""A random model of three layers, for what must run on some model or other."""

from __future__ import annotations

from typing import Any

import pytest

from neva_tl import models
from neva_tl.models.tiny import tiny_checkpoint


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Chat template, 32 wide, a context long enough for a questionnaire."""
    return models.load(tiny_checkpoint(tmp_path_factory.mktemp("evaluation") / "tiny", chat=True, n_ctx=1024))
