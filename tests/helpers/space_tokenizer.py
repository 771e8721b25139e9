"""A small SentencePiece-like vocabulary in which most words begin with a token of white space alone."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neva_tl.models import tiny


def space_tokenizer(words: Sequence[str]) -> Any:
    """Single characters, and merges that build these words after a space; any other word begins with a lone space."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    space = "\u2581"
    vocabulary = dict.fromkeys(
        ["<unk>", "<s>", "</s>", *string.ascii_letters, *string.digits, *string.punctuation, space]
    )
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        for end, letter in enumerate(word):
            merges[space + word[:end], letter] = None
            vocabulary[space + word[: end + 1]] = None
    ids = {token: index for index, token in enumerate(vocabulary)}
    raw = Tokenizer(models.BPE(ids, list(merges), unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    raw.decoder = decoders.Metaspace(prepend_scheme="always")
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", ids["<s>"])])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def space_checkpoint(folder: Path, words: Sequence[str]) -> Path:
    """A random Llama with this tokenizer, as an HF folder."""
    tokenizer = space_tokenizer(words)
    model = tiny.llama(tokenizer, n_layers=3, d_model=32, d_mlp=48, n_heads=4, n_kv_heads=2, n_ctx=1024)
    tiny._fill(model, 0)
    return tiny.save_checkpoint(folder, model, tokenizer)
