"""TransformerLens 3.9 only: a `HookedTransformer` from a local checkpoint (its own loader accepts hub names only)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neva_tl.models.checkpoint import CheckedClass
from neva_tl.models.facts import MEMO

#: Default bound of a HookedTransformer's context: it stores an n_ctx x n_ctx mask.
HOOKED_MAX_CTX = 2048


def config_fields(
    hf: dict[str, Any], device: torch.device, dtype: torch.dtype, n_ctx: int | None
) -> dict[str, Any] | None:
    """Fields of a `HookedTransformerConfig` for a Llama- or GPT-2-style checkpoint; None for other checkpoints."""
    kind = (hf.get("architectures") or [None])[0]
    common = {"device": str(device), "dtype": dtype, "original_architecture": kind, "tokenizer_prepends_bos": None}
    if kind == "LlamaForCausalLM":
        rope = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
        plain = rope.get("rope_type", rope.get("type", "default")) == "default"
        if not plain or hf.get("attention_bias") or hf.get("mlp_bias"):
            return None
        heads = hf["num_attention_heads"]
        kv_heads = hf.get("num_key_value_heads") or heads
        d_head = hf.get("head_dim") or hf["hidden_size"] // heads
        return common | {
            "d_model": hf["hidden_size"],
            "d_head": d_head,
            "n_heads": heads,
            "n_key_value_heads": kv_heads if kv_heads != heads else None,
            "d_mlp": hf["intermediate_size"],
            "n_layers": hf["num_hidden_layers"],
            "n_ctx": n_ctx or min(hf.get("max_position_embeddings", HOOKED_MAX_CTX), HOOKED_MAX_CTX),
            "eps": hf.get("rms_norm_eps", 1e-6),
            "d_vocab": hf["vocab_size"],
            "act_fn": hf.get("hidden_act", "silu"),
            "normalization_type": "RMS",
            "positional_embedding_type": "rotary",
            "rotary_adjacent_pairs": False,
            "rotary_dim": d_head,
            "rotary_base": rope.get("rope_theta", hf.get("rope_theta", 10000.0)),
            "final_rms": True,
            "gated_mlp": True,
        }
    if kind == "GPT2LMHeadModel":
        context = hf.get("n_positions") or hf.get("n_ctx") or 1024
        return common | {
            "d_model": hf["n_embd"],
            "d_head": hf["n_embd"] // hf["n_head"],
            "n_heads": hf["n_head"],
            "d_mlp": hf.get("n_inner") or 4 * hf["n_embd"],
            "n_layers": hf["n_layer"],
            "n_ctx": min(n_ctx or context, context),
            "eps": hf.get("layer_norm_epsilon", 1e-5),
            "d_vocab": hf["vocab_size"],
            "act_fn": hf.get("activation_function", "gelu_new"),
            "use_attn_scale": hf.get("scale_attn_weights", True),
            "scale_attn_by_inverse_layer_idx": hf.get("scale_attn_by_inverse_layer_idx", False),
            "normalization_type": "LN",
        }
    return None


def boot(hooked_class: Any, where: str, fields: dict[str, Any], tokenizer: Any, checked: CheckedClass) -> Any:
    """Build a `HookedTransformer` from a local checkpoint.

    Args:
        hooked_class: The class `HookedTransformer`.
        where: The folder of the checkpoint.
        fields: Config fields from `config_fields`.
        tokenizer: The tokenizer of the checkpoint.
        checked: Reads the transformers model, and records its trial pass.

    Returns:
        The model, with the checkpoint's own weights (nothing folded or centred).
    """
    from transformer_lens import HookedTransformerConfig
    from transformer_lens.pretrained import weight_conversions
    from transformers import AutoModelForCausalLM

    checked.model_class = AutoModelForCausalLM
    hf_model = checked.from_pretrained(where, dtype=fields["dtype"])
    cfg = HookedTransformerConfig.from_dict(fields | {"model_name": Path(where).name})
    model = hooked_class(cfg, tokenizer=copy.deepcopy(tokenizer), move_to_device=False)
    family = {"LlamaForCausalLM": "llama", "GPT2LMHeadModel": "gpt2"}[fields["original_architecture"]]
    state = getattr(weight_conversions, f"convert_{family}_weights")(hf_model, cfg)
    plain = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases")
    model.load_and_process_state_dict(state, **dict.fromkeys(plain, False))
    MEMO.put(model, "config", hf_model.config.to_dict())
    # all layers share one causal mask: the masks are equal, of size n_ctx^2 each
    for block in model.blocks[1:]:
        block.attn.mask = model.blocks[0].attn.mask
    return model.to(fields["device"], print_details=False)


def own_padding_mask(model: Any, tokens: Tensor, padding_side: Any) -> Tensor | None:
    """The mask that a `HookedTransformer` makes itself where its tokenizer pads on the left.

    Args:
        model: The model that is called.
        tokens: `[b, n]` token ids.
        padding_side: Argument of the call; anything but `left` and `right` takes the tokenizer's side.

    Returns:
        `[b, n]`, 1 for real tokens; None where the model makes no mask.

    Example:
        >>> import torch
        >>> nv.models.own_padding_mask(model, torch.tensor([[1, 5, 7]]), "right") is None
        True
    """
    tokenizer = getattr(model, "tokenizer", None)
    side = padding_side if padding_side in ("left", "right") else getattr(tokenizer, "padding_side", "right")
    if tokenizer is None or side != "left":
        return None
    from transformer_lens.utils import get_attention_mask

    mask: Tensor = get_attention_mask(tokenizer, tokens, getattr(model.cfg, "default_prepend_bos", True))
    return mask
