"""Attention scores of half-precision models in float32.

TransformerLens multiplies queries and keys in the model's dtype, which rounds each score to three digits. Where keys have large
biases (Qwen2.5: scores in the thousands) the rounding error of a score is several nats, and the attention pattern is noise:
logits of Qwen2.5-Coder-0.5B in bfloat16 were off by five times their norm, and by .06 with scores in float32. The fused kernel
of transformers computes scores in float32 as well. `HookedTransformer` (TransformerLens 3.9) is left as it is: it rounds
scores in float16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neva_tl.models.shared_heads import SharedHeads
from neva_tl.models.types import BridgeModel

#: Dtypes whose scores need float32.
HALF = (torch.bfloat16, torch.float16)


def float32_scores(model: BridgeModel) -> int:
    """Make the attention of a half-precision bridge compute its scores and pattern in float32; the cache keeps its dtype.

    Hook points between rotation and output projection (`hook_rot_q`, `hook_attn_scores`, `hook_pattern`) then see float32.

    Args:
        model: The bridge.

    Returns:
        The number of attention modules that were changed.
    """
    changed = 0
    for block in model.blocks:
        attention: Any = getattr(block, "attn", None)
        kind = type(attention).__name__  # subclasses compute their scores elsewhere
        if kind == "JointQKVAttentionBridge":  # GPT-2: an option of TransformerLens
            attention._reorder_and_upcast_attn = True
            changed += 1
        elif kind == "PositionEmbeddingsAttentionBridge" and isinstance(attention.hook_rot_q, nn.Module):
            attention.hook_rot_q.forward = _upcast
            groups = int(getattr(attention.original_component, "num_key_value_groups", 1))
            attention._update_kv_cache = _Upcasting(attention._update_kv_cache, groups)
            changed += 1
    return changed


def _upcast(x: Tensor) -> Tensor:
    return x.float()


#: Queries up to which products with shared heads are faster than a copy of the heads (equally fast at 45).
_FEW_QUERIES = 16


class _Upcasting:
    """Keys and values in float32 after the cache stored them in their own dtype.

    Args:
        update: Extends keys and values by the cached ones.
        groups: Query heads per key and value head.
    """

    def __init__(self, update: Callable[..., tuple[Tensor, Tensor]], groups: int) -> None:
        self.update, self.groups = update, groups

    def __call__(self, keys: Tensor, values: Tensor, **options: Any) -> tuple[Any, Any]:
        shared = self.groups > 1 and keys.shape[2] <= _FEW_QUERIES and not torch.is_grad_enabled()
        keys, values = (x.float() for x in self.update(keys, values, **options))
        return (SharedHeads(keys, self.groups), SharedHeads(values, self.groups)) if shared else (keys, values)
