"""Keys and values that query heads share, and norms without hooks: the same bits as TransformerLens's own steps."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import repeat_kv

from neva_tl import models
from neva_tl.models import attention_scores, forward_pass
from neva_tl.models.shared_heads import SharedHeads

pytestmark = pytest.mark.core

TOKENS = torch.randint(4, 300, (3, 9), generator=torch.Generator().manual_seed(1))
MASK = torch.ones_like(TOKENS, dtype=torch.bool)
MASK[1, :3] = False


@pytest.fixture(scope="module")
def half(folders: dict[str, Path]) -> Any:
    model = models.load(folders["llama"], dtype="bfloat16")
    if not hasattr(model, "original_model"):
        pytest.skip("HookedTransformer has no shared heads")
    return model


@pytest.mark.parametrize("queries", [1, 3])
def test_products_equal_those_with_copies(queries: int) -> None:
    draw = torch.Generator().manual_seed(2)
    heads, query = torch.randn(2, 2, 11, 8, generator=draw), torch.randn(2, 6, queries, 8, generator=draw)
    shared, copies = repeat_kv(SharedHeads(heads, 3), 3), repeat_kv(heads, 3)  # type: ignore[arg-type]
    assert isinstance(shared, SharedHeads) and shared.shape == copies.shape
    scores = torch.matmul(query, shared.transpose(-2, -1))
    assert torch.equal(scores, torch.matmul(query, copies.transpose(-2, -1)))
    assert torch.equal(torch.matmul(scores, shared), torch.matmul(scores, copies))


def test_other_uses_make_the_copies() -> None:
    heads = torch.randn(2, 2, 11, 8, generator=torch.Generator().manual_seed(3))
    shared, copies = SharedHeads(heads, 3, repeated=True), repeat_kv(heads, 3)
    assert torch.equal(torch.add(shared, 1.0), copies + 1)  # type: ignore[call-overload]
    assert torch.equal(shared[:, :4], copies[:, :4]) and torch.equal(shared.transpose(1, 2), copies.transpose(1, 2))
    assert shared.transpose(-2, -1).shape == copies.transpose(-2, -1).shape and shared.ndim == 4
    assert torch.equal(SharedHeads(heads, 3)[:, 0], heads[:, 0])


def _steps(model: Any) -> list[torch.Tensor]:
    past = models.KVCache()
    return [
        models.forward(model, TOKENS[:, a:b], MASK[:, a:b], past=past)  # type: ignore[misc]
        for a, b in ((0, 6), (6, 7), (7, 9))
    ]


def test_decoding_in_bfloat16_has_the_bits_of_copied_heads(half: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    products: list[int] = []
    product = SharedHeads._product
    monkeypatch.setattr(SharedHeads, "_product", lambda self, query: products.append(1) or product(self, query))
    shared = _steps(half)
    assert len(products) == 2 * 3 * models.info(half).n_layers, "an oracle: the shared heads were used"
    monkeypatch.setattr(attention_scores, "_FEW_QUERIES", 0)
    copied = _steps(half)
    assert len(products) == 2 * 3 * models.info(half).n_layers
    assert all(torch.equal(one, other) for one, other in zip(shared, copied, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_plain_norms_give_the_same_bits_and_hooks_still_fire(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    model = models.load(folders["llama"], dtype=dtype)
    if not hasattr(model, "original_model"):
        pytest.skip("HookedTransformer has norms of its own")
    fired: list[str] = []
    plain = models.forward(model, TOKENS, MASK)
    point = "blocks.1.ln2.hook_normalized"
    handle = models.add_hook(model, point, lambda x, hook: fired.append(hook.name))
    observed = models.forward(model, TOKENS, MASK)
    handle.remove()
    handle = models.add_hook(model, point, lambda x, hook: 2 * x)
    with pytest.warns(UserWarning, match="edited"):
        edited = models.forward(model, TOKENS, MASK)
    handle.remove()
    monkeypatch.setattr(forward_pass, "plain_norms", lambda model: nullcontext())
    stepwise = models.forward(model, TOKENS, MASK)
    assert plain is not None and observed is not None and stepwise is not None and edited is not None
    assert len(fired) == 1 and torch.equal(plain, stepwise) and torch.equal(plain, observed)
    assert not torch.allclose(plain[MASK], edited[MASK])
