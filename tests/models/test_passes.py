"""The key-value cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from neva_tl import models

pytestmark = pytest.mark.core
FAMILIES = ("llama", "gpt2")


@pytest.mark.parametrize("family", FAMILIES)
def test_cache_rows_leave_the_original_alone(loaded: dict[str, Any], family: str) -> None:
    model = loaded[family]
    tokens = torch.randint(4, 300, (2, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    past = models.KVCache()
    models.forward(model, tokens[:, :4], mask[:, :4], past=past)
    size = past.nbytes
    index = torch.tensor([1, 0, 1])
    out = models.forward(model, tokens[index, 4:], mask[index, 4:], past=past.rows(index))
    whole = models.forward(model, tokens, mask)
    again = models.forward(model, tokens[:, 4:], mask[:, 4:], past=past.rows(torch.tensor([0, 1])))
    assert out is not None and whole is not None and again is not None
    assert torch.allclose(out, whole[index, 4:], atol=1e-4) and torch.allclose(again, whole[:, 4:], atol=1e-4)
    assert past.nbytes == size
