"""Tiny models of two families, one of them with a chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neva_tl import models
from neva_tl.models.tiny import tiny_checkpoint


@pytest.fixture(scope="package")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {
        "llama": tiny_checkpoint(root / "llama", "llama"),
        "gpt2": tiny_checkpoint(root / "gpt2", "gpt2"),
        "chat": tiny_checkpoint(root / "chat", "llama", chat=True),
    }


@pytest.fixture(scope="package")
def zoo(folders: dict[str, Path]) -> dict[str, Any]:
    return {name: models.load(folder) for name, folder in folders.items()}


@pytest.fixture(params=["llama", "gpt2", "chat"])
def model(request: pytest.FixtureRequest, zoo: dict[str, Any]) -> Any:
    return zoo[request.param]
