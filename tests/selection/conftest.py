"""Makes `planted_neurons` importable (pytest's importlib mode adds no folder to the path) and gives its model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from neva_tl import models

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> object:
    """A model of which only the output weights are known."""
    from planted_neurons import weights

    w = torch.tensor(weights(), dtype=torch.float32)
    monkeypatch.setattr(models, "w_out", lambda model, layer: w[layer])
    return object()
