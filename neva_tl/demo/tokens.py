"""Tokenizer of the demo model: one token per word, spaces between words, so that decoding restores the text exactly."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from neva_tl.demo.world import vocabulary

SPECIAL: tuple[str, ...] = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(4)


@cache
def token_ids() -> dict[str, int]:
    """Map tokens to ids: the special tokens, then the world's words in sorted order."""
    return {token: i for i, token in enumerate((*SPECIAL, *vocabulary()))}


def build_tokenizer() -> Any:
    """Build a `tokenizers.Tokenizer` that prepends <bos> to encoded text (with `add_special_tokens`)."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel(vocab=token_ids(), unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    return tokenizer


def save_tokenizer(folder: Path, n_ctx: int) -> None:
    """Write tokenizer.json and its Hugging Face configs.

    Args:
        folder: Folder to write to.
        n_ctx: Context length of the model.
    """
    build_tokenizer().save(str(folder / "tokenizer.json"))
    named = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": n_ctx,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": True,
        "padding_side": "right",
        **named,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(named, indent=1) + "\n", encoding="utf-8")
