"""Small random checkpoints for tests: real HF folders, made in a second, no file and no network needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

#: What the little tokenizer learns its merges from.
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
        bos: `<s>` in front of every text, apart from EOS (Llama's way); False: one separator for both and none added
            (GPT-2's way).
        chat: give it a chat template.
        vocab_size: 256 bytes, the special tokens, and merges.
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
        folder: where; made if absent.
        family: `llama` (RMS norm, rotary, gated, grouped-query) or `gpt2` (LayerNorm, learned positions, ungated).
        seed: of the weights, drawn with spread .2 so that activations are far from linear.

    Returns:
        The folder.
    """
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    text = tiny_tokenizer(bos=family == "llama", chat=chat)
    ids = {"bos_token_id": text.bos_token_id, "eos_token_id": text.eos_token_id, "initializer_range": 0.2}
    if family == "llama":
        config: Any = LlamaConfig(
            hidden_size=d_model,
            intermediate_size=d_mlp,
            num_hidden_layers=n_layers,
            num_attention_heads=n_heads,
            num_key_value_heads=n_kv_heads,
            vocab_size=len(text),
            max_position_embeddings=n_ctx,
            tie_word_embeddings=False,
            **ids,
        )
    else:
        config = GPT2Config(
            n_embd=d_model,
            n_inner=d_mlp,
            n_layer=n_layers,
            n_head=n_heads,
            n_positions=n_ctx,
            vocab_size=len(text),
            **ids,
        )
    model = (LlamaForCausalLM if family == "llama" else GPT2LMHeadModel)(config)
    _fill(model, seed)
    out = Path(folder)
    model.save_pretrained(out, safe_serialization=True)
    text.save_pretrained(out)
    return out


def _fill(model: Any, seed: int) -> None:
    """Seeded weights without touching the global generator; norms and biases get random parts too, so that no term hides."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = 0.2 * torch.randn(parameter.shape, generator=draw)
            is_norm_weight = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(noise + 1 if is_norm_weight else noise)
