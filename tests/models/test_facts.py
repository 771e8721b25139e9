"""Facts of a loaded model."""

from __future__ import annotations

import os
from typing import Any

import pytest

from neva_tl import models

pytestmark = pytest.mark.core
FAMILIES = ("llama", "gpt2")


@pytest.mark.parametrize("family", FAMILIES)
def test_info(loaded: dict[str, Any], family: str) -> None:
    info = models.info(loaded[family])
    assert (info.n_layers, info.d_model, info.d_mlp, info.n_heads, info.d_head) == (3, 32, 48, 4, 8)
    assert info.n_kv_heads == (2 if family == "llama" else 4)
    assert info.gated == (family == "llama")
    assert info.normalisation == ("rms" if family == "llama" else "layernorm")
    assert (info.d_vocab, info.n_ctx, info.dtype, info.device, info.chat) == (320, 128, "float32", "cpu", False)
    assert info.name == family  # the folder's own name, no path
    assert os.sep not in info.name


@pytest.mark.smollm2
def test_smollm2_facts(smollm2: Any) -> None:
    info = models.info(smollm2)
    assert (info.n_layers, info.d_model, info.d_mlp, info.n_heads, info.n_kv_heads) == (30, 576, 1536, 9, 3)
    assert info.chat and info.name == "smollm2"
