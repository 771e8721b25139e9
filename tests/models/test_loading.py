"""Loading: types, gradients, and models that are already loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from neva_tl import models
from neva_tl.core.errors import InputError

pytestmark = pytest.mark.core


def test_unknown_dtype(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="unknown dtype"):
        models.load(folders["llama"], dtype="float7")


def test_a_loaded_model_passes_through(loaded: dict[str, Any]) -> None:
    assert models.load(loaded["llama"]) is loaded["llama"]
    with pytest.raises(InputError, match="TransformerLens model"):
        models.info(torch.nn.Linear(2, 2))


def test_dtype_is_respected(folders: dict[str, Path]) -> None:
    model = models.load(folders["llama"], dtype="bfloat16")
    assert models.info(model).dtype == "bfloat16"
    assert models.info(models.load(folders["llama"], dtype="auto", device="cpu")).dtype == "float32"


def test_no_parameter_asks_for_gradients(loaded: dict[str, Any]) -> None:
    assert not any(p.requires_grad for p in loaded["llama"].parameters())
    assert not loaded["llama"].training
