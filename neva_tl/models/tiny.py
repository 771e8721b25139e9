"""Small random checkpoints for tests: HF folders made in a second, without files or network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

#: Text from which the tokenizer learns its merges.
_CORPUS = (
    "the quick brown fox helps a lazy dog cross the river while the old king counts his golden coins",
    "every child shares bread with strangers, and nobody in the village keeps more than they need",
    "she climbs the highest tower at night because danger makes her heart beat faster",
)
_CHAT = (
    "{% for m in messages %}{{ '<user>' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def tiny_tokenizer(*, bos: bool = True, chat: bool = False, vocab_size: int = 320) -> Any:
    """A byte-level BPE tokenizer (fast, with offsets).

    Args:
        bos: Put `<s>`, which differs from EOS, before every text (as Llama does); False: one separator token for both,
            which is not added (as GPT-2 does).
        chat: Add a chat template.
        vocab_size: Number of tokens: 256 bytes, the special tokens, and merges.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["<s>", "</s>", "<user>", "<assistant>"] if bos else ["<|endoftext|>", "<user>", "<assistant>", "</s>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        _CORPUS,
        trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        ),
    )
    raw.post_processor = (
        processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        if bos
        else processors.ByteLevel(trim_offsets=False)
    )
    out = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=specials[0], eos_token="</s>" if bos else specials[0])
    if chat:
        out.chat_template = _CHAT
    return out


def tiny_checkpoint(
    folder: str | Path,
    family: Literal["llama", "gpt2"] = "llama",
    *,
    n_layers: int = 3,
    d_model: int = 32,
    d_mlp: int = 48,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    n_ctx: int = 128,
    chat: bool = False,
    seed: int = 0,
) -> Path:
    """Save a random model and tokenizer as an HF folder that `neva_tl.load` reads.

    Args:
        folder: The target; created if absent.
        family: `llama` (RMS norm, rotary, gated, grouped-query) or `gpt2` (LayerNorm, learned positions, ungated).
        n_layers: Blocks.
        d_model: Width of the residual stream.
        d_mlp: Neurons per layer.
        n_heads: Attention heads.
        n_kv_heads: Key and value heads (`llama` only).
        n_ctx: Context length in tokens.
        chat: Add a chat template to the tokenizer.
        seed: Seed of the weights, drawn with standard deviation .2 so that activations are far from linear.

    Returns:
        The folder.
    """
    tokenizer = tiny_tokenizer(bos=family == "llama", chat=chat)
    sizes = {"n_layers": n_layers, "d_model": d_model, "d_mlp": d_mlp, "n_heads": n_heads, "n_ctx": n_ctx}
    model = llama(tokenizer, **sizes, n_kv_heads=n_kv_heads) if family == "llama" else _gpt2(tokenizer, **sizes)
    _fill(model, seed)
    return save_checkpoint(folder, model, tokenizer)


def llama(
    tokenizer: Any, *, n_layers: int, d_model: int, d_mlp: int, n_heads: int, n_ctx: int, n_kv_heads: int | None = None
) -> Any:
    """A transformers Llama of any size for a tokenizer, embeddings not tied, weights as transformers initialises them.

    Args:
        tokenizer: Its vocabulary and its BOS and EOS tokens become the model's.
        n_layers: Blocks.
        d_model: Width of the residual stream.
        d_mlp: Neurons per layer.
        n_heads: Attention heads.
        n_ctx: Context length in tokens.
        n_kv_heads: Key and value heads; default: `n_heads`.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=d_model,
        intermediate_size=d_mlp,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        num_key_value_heads=n_heads if n_kv_heads is None else n_kv_heads,
        max_position_embeddings=n_ctx,
        tie_word_embeddings=False,
        **_shared_config(tokenizer),
    )
    return LlamaForCausalLM(config)


def save_checkpoint(folder: str | Path, model: Any, tokenizer: Any) -> Path:
    """Save a transformers model and its tokenizer as an HF folder (safetensors); return the folder."""
    out = Path(folder)
    model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
    return out


def _gpt2(tokenizer: Any, *, n_layers: int, d_model: int, d_mlp: int, n_heads: int, n_ctx: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_embd=d_model,
        n_inner=d_mlp,
        n_layer=n_layers,
        n_head=n_heads,
        n_positions=n_ctx,
        **_shared_config(tokenizer),
    )
    return GPT2LMHeadModel(config)


def _shared_config(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "initializer_range": 0.2,
    }


def _fill(model: Any, seed: int) -> None:
    """Draw seeded weights without the global generator; norms and biases get random parts too, so that every term counts."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = 0.2 * torch.randn(parameter.shape, generator=draw)
            is_norm_weight = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(noise + 1 if is_norm_weight else noise)
