"""The number format that is fastest here, and matrix products in bfloat16 for models in float32."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal

import torch

from neva_tl.models.facts import MEMO
from neva_tl.models.types import Model

#: Precisions of the matrix products of a float32 model.
Matmul = Literal["float32", "bf16"]
_CPU_FACTS = Path("/proc/cpuinfo")


def auto_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device multiplies matrices in it, else float32.

    A GPU with bfloat16, or a processor with AMX tiles or AVX-512's bfloat16 products. Collecting activations of SmolLM2 took
    180 s in float32 and 71 s in bfloat16 with tiles (3,200 prompts), 28.4 s and 15.6 s without (200 prompts, one thread).

    Args:
        device: The device of the model.
    """
    half = torch.cuda.is_bf16_supported() if device.type == "cuda" else device.type == "cpu" and has_bfloat16_products()
    return torch.bfloat16 if half else torch.float32


@functools.cache
def has_bfloat16_products() -> bool:
    """Return whether the processor multiplies bfloat16 numbers (`amx_bf16` or `avx512_bf16` of Linux's processor flags)."""
    try:
        text = _CPU_FACTS.read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(flags.split())


def use_bf16_products(model: Model) -> None:
    """Compute the matrix products of a model's passes in bfloat16, with float32 activations, weights and sums.

    The global setting (`torch.set_float32_matmul_precision`) is "medium" inside each forward pass of this model alone. The
    model's fingerprint records it. It gains time on GPUs and on processors with AMX tiles (SmolLM2, 3,200 prompts: 102 s
    instead of 180 s), and nothing on processors without tiles.

    Args:
        model: A model in float32.
    """
    before: list[str] = []

    def enter(*_: Any) -> None:
        before.append(torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("medium")

    def leave(*_: Any) -> None:
        torch.set_float32_matmul_precision(before.pop())

    module: Any = model  # the protocol of models leaves out what torch has
    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave, always_call=True)  # also after an error
    MEMO.put(model, "matmul", "bf16")
