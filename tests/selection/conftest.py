"""The model of the planted neurons."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from neva_tl import models


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> object:
    """A model of which only the output weights are known."""
    from helpers.planted_neurons import weights

    w = torch.tensor(weights(), dtype=torch.float32)
    monkeypatch.setattr(models, "w_out", lambda model, layer: w[layer])
    return SimpleNamespace(cfg=None, blocks=[SimpleNamespace() for _ in w])
