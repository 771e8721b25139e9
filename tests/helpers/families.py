"""Tiny random checkpoints whose blocks and heads do more than add to the residual stream, and plain transformers as oracle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from neva_tl.models.tiny import tiny_tokenizer

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 320,
    "max_position_embeddings": 128,
}
_GROUPED = _SIZES | {"num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
_GPT: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 320, "n_positions": 128}
_GEMMA = _GROUPED | {"head_dim": 8, "query_pre_attn_scalar": 8}
#: Name -> transformers' class (without ForCausalLM) and config.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama with biases": ("Llama", _GROUPED | {"mlp_bias": True, "attention_bias": True}),
    "gemma": ("Gemma", _GROUPED | {"head_dim": 8}),
    "gemma2": ("Gemma2", _GEMMA | {"final_logit_softcapping": None}),
    "gemma2 capped": ("Gemma2", _GEMMA | {"final_logit_softcapping": 2.0}),
    "gemma3": ("Gemma3", _GEMMA),
    "olmo": ("Olmo", _GROUPED),
    "olmo2": ("Olmo2", _GROUPED),
    "olmo3": ("Olmo3", _GROUPED),
    "glm4": ("Glm4", _GROUPED | {"head_dim": 8}),
    "granite": (
        "Granite",
        _GROUPED
        | {"logits_scaling": 4.0, "residual_multiplier": 0.4, "embedding_multiplier": 3.0, "attention_multiplier": 0.2},
    ),
    "cohere": ("Cohere", _GROUPED | {"logit_scale": 0.25}),
    "cohere2": ("Cohere2", _GROUPED | {"logit_scale": 0.25}),
    "mpt with an unused scale": (
        "Mpt",
        {"d_model": 32, "n_layers": 2, "n_heads": 4, "vocab_size": 320, "max_seq_len": 128, "logit_scale": 0.5},
    ),
    "neox parallel": ("GPTNeoX", _SIZES | {"use_parallel_residual": True}),
    "neox sequential": ("GPTNeoX", _SIZES | {"use_parallel_residual": False}),
    "gptj": ("GPTJ", _GPT | {"rotary_dim": 4, "n_inner": 48}),
    "phi": ("Phi", _GROUPED | {"partial_rotary_factor": 0.5}),
    "nemotron": ("Nemotron", _GROUPED | {"head_dim": 8}),
}


def save_family(folder: Path, name: str) -> Path:
    """Save a checkpoint of a family; weights, norm weights and biases are all random.

    Args:
        folder: Where it is saved.
        name: One of `FAMILIES`.
    """
    kind, fields = FAMILIES[name]
    config_class = "Gemma3TextConfig" if kind == "Gemma3" else f"{kind}Config"
    torch.manual_seed(0)
    hf = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, config_class)(**fields))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter_name, parameter in sorted(hf.named_parameters()):
            noise = torch.randn(parameter.shape, generator=draw)
            is_norm_weight = parameter.ndim == 1 and parameter_name.endswith("weight")
            parameter.copy_(noise.abs() + 0.3 if is_norm_weight else 0.2 * noise)
    hf.save_pretrained(folder, safe_serialization=True)
    tiny_tokenizer().save_pretrained(folder)
    return folder


class Oracle:
    """A checkpoint in plain transformers, with norms whose divisor can be frozen.

    Args:
        folder: The checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.hf: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def logits(self, ids: list[int]) -> Tensor:
        """Return the logits after the last token.

        Args:
            ids: Token ids.
        """
        with torch.no_grad():
            return self.hf(torch.tensor([ids])).logits[0, -1].double()

    def direct_effect(self, ids: list[int], layer: int, neuron: int) -> Tensor:
        """Return what a neuron adds to the last logits by the direct path: its output zeroed, all else frozen.

        Frozen are the divisor of the final norm and of the norm after the MLP at each token, and what later blocks add.

        Args:
            ids: Token ids.
            layer: Layer of the neuron.
            neuron: Its index.
        """
        block = self.hf.model.layers[layer]
        norms = [self.hf.model.norm]
        norms += [
            module
            for name in ("post_feedforward_layernorm", "post_mlp_layernorm")
            if (module := getattr(block, name, None)) is not None
        ]
        later = list(self.hf.model.layers[layer + 1 :])
        before: dict[int, Tensor] = {}

        def record(module: Any, args: Any, out: Any) -> None:
            out = out[0] if isinstance(out, tuple) else out
            # a norm's slope per element, whatever its weights; what a block adds
            before[id(module)] = out / centred(args[0]) if module in norms else out - args[0]

        def frozen(module: Any, args: Any, out: Any) -> Any:
            new = centred(args[0]) * before[id(module)] if module in norms else args[0] + before[id(module)]
            return (new, *out[1:]) if isinstance(out, tuple) else new

        def zero(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            h = args[0].clone()
            h[..., neuron] = 0
            return (h,)

        centre = "layer" in type(self.hf.model.norm).__name__.lower()

        def centred(x: Tensor) -> Tensor:
            return x - x.mean(dim=-1, keepdim=True) if centre else x

        with hooked([*norms, *later], record):
            base = self.logits(ids)
        handle = block.mlp.down_proj.register_forward_pre_hook(zero)
        with hooked([*norms, *later], frozen):
            without = self.logits(ids)
        handle.remove()
        return base - without


@contextmanager
def hooked(modules: list[Any], hook: Any) -> Iterator[None]:
    """Put a forward hook on modules inside the block.

    Args:
        modules: The modules.
        hook: The hook.
    """
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
