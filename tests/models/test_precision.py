"""The dtype that `auto` takes, matrix products in bfloat16, and attention scores of half-precision models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models import precision
from neva_tl.models.tiny import tiny_checkpoint

pytestmark = pytest.mark.core

IDS = torch.tensor([[3, 8, 21, 40, 5, 60, 11, 9, 33, 2]])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_tile amx_bf16 sse2", torch.bfloat16),
        ("flags\t\t: fpu avx512f avx512_bf16 sse2", torch.bfloat16),
        ("flags\t\t: fpu avx512f avx512_vnni sse2", torch.float32),
        ("Features : asimd", torch.float32),
        (None, torch.float32),
    ],
)
def test_auto_is_bfloat16_where_the_processor_multiplies_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, expected: torch.dtype
) -> None:
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    monkeypatch.setattr(precision, "_CPU_FACTS", tmp_path / "cpuinfo")
    precision.has_bfloat16_products.cache_clear()
    try:
        assert precision.auto_dtype(torch.device("cpu")) == expected
    finally:
        precision.has_bfloat16_products.cache_clear()


def test_products_in_bfloat16_are_set_inside_passes_alone_and_recorded(folders: dict[str, Path]) -> None:
    model = models.load(folders["llama"], matmul="bf16")
    plain = models.load(folders["llama"])
    observed: list[str] = []
    handle = models.add_hook(
        model,
        models.hook_name(model, 0, "post"),
        lambda x, hook=None: observed.append(torch.get_float32_matmul_precision()),
    )
    assert torch.get_float32_matmul_precision() == "highest"
    models.forward(model, IDS, torch.ones_like(IDS, dtype=torch.bool))
    handle.remove()
    assert observed == ["medium"] and torch.get_float32_matmul_precision() == "highest"
    assert models.fingerprint(model) == {**models.fingerprint(plain), "matmul": "bf16"}
    difference = models.fingerprint_difference(models.fingerprint(plain), models.fingerprint(model))
    assert difference == "matrix products in another precision"
    same = models.fingerprint_for(models.fingerprint(plain), model, "these neurons")
    assert models.fingerprint_difference(models.fingerprint(plain), same) == ""


def test_a_failed_pass_restores_the_precision(folders: dict[str, Path]) -> None:
    model = models.load(folders["llama"], matmul="bf16")

    def fail(x: Any, hook: Any = None) -> None:
        raise ZeroDivisionError

    handle = models.add_hook(model, models.hook_name(model, 0, "post"), fail)
    with pytest.raises(ZeroDivisionError):
        models.forward(model, IDS, torch.ones_like(IDS, dtype=torch.bool))
    handle.remove()
    assert torch.get_float32_matmul_precision() == "highest"


def test_products_in_bfloat16_need_a_float32_model(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="matmul='bf16' is for models in float32"):
        models.load(folders["llama"], dtype="bfloat16", matmul="bf16")
    with pytest.raises(InputError, match="matmul"):
        models.load(folders["llama"], matmul="bf17")  # type: ignore[arg-type]


@pytest.mark.parametrize(("dtype", "rounding", "limit"), [("bfloat16", 0.03, 0.01), ("float16", 0.005, 0.002)])
def test_attention_scores_of_half_precision_are_not_rounded(
    tmp_path: Path, dtype: str, rounding: float, limit: float
) -> None:
    """The pattern against softmax in float64 over the same queries and keys, where scores are in the hundreds."""
    folder = tiny_checkpoint(tmp_path / "llama", n_layers=1)
    hf = AutoModelForCausalLM.from_pretrained(folder)
    attention = hf.model.layers[0].self_attn
    for projection in (attention.q_proj, attention.k_proj):
        projection.weight.data.mul_(60)
    hf.save_pretrained(folder)
    model = models.load(folder, dtype=dtype)
    if dtype == "float16" and not hasattr(model, "original_model"):
        pytest.skip("HookedTransformer rounds scores in float16")
    points = [f"blocks.0.attn.{name}" for name in ("hook_rot_q", "hook_rot_k", "hook_pattern")]
    _, cache = model.run_with_cache(IDS, names_filter=points)
    queries, keys, pattern = (cache[name][0].double() for name in points)
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
    scores = torch.einsum("qhd,khd->hqk", queries, keys) * queries.shape[-1] ** -0.5
    causal = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    scores = scores.masked_fill(~causal, -torch.inf)
    assert scores[:, causal].abs().max() > 100, "an oracle: rounding such scores shows"
    rounded = scores.to(getattr(torch, dtype)).double().softmax(-1)
    exact = scores.softmax(-1)
    assert (rounded - exact).abs().max() > rounding
    assert (pattern - exact).abs().max() < limit
