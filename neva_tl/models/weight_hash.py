"""Hashes that say whether two models are the same: weights and tokenizer. A private part of models.py."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from neva_tl.models.types import Model

#: Where TransformerLens keeps a block's weights, in its own layout: the same on both its classes.
_BLOCK = {
    "ln1": ("w", "b"),
    "attn": ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"),
    "ln2": ("w", "b"),
    "mlp": ("W_in", "W_gate", "W_out", "b_in", "b_out"),
}
_ENDS = {"embed": ("W_E",), "pos_embed": ("W_pos",), "ln_final": ("w", "b"), "unembed": ("W_U", "b_U")}


def hash_weights(model: Model) -> str:
    """sha256 over names, shapes, dtypes and bytes of a TransformerLens model's weights in TransformerLens's layout.

    Equal for a `TransformerBridge` and a `HookedTransformer` with the same weights: key and value heads are taken before
    they are repeated for grouped queries, and tensors of zeros alone (biases that only one class makes) are left out.
    An architecture without these names is hashed by its parameters' own names.
    """
    tensors = dict(_named(model))
    wanted = {f"blocks.{layer}.{part}" for layer in range(len(model.blocks)) for part in ("attn.W_Q", "mlp.W_out")}
    if not wanted <= tensors.keys():
        tensors = dict(model.named_parameters())
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        if bool(tensor.any()):
            digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}".encode())
            digest.update(tensor.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _named(model: Model) -> Iterator[tuple[str, torch.Tensor]]:
    for part, names in _ENDS.items():
        yield from _of(getattr(model, part, None), part, names)
    for layer, block in enumerate(model.blocks):
        for part, names in _BLOCK.items():
            yield from _of(getattr(block, part, None), f"blocks.{layer}.{part}", names)


def _of(owner: Any, prefix: str, names: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
    for name in names:
        # HookedTransformer keeps the unrepeated key and value heads under a leading underscore
        found = getattr(owner, f"_{name}", None)
        found = getattr(owner, name, None) if found is None else found
        if isinstance(found, torch.Tensor):
            yield f"{prefix}.{name}", found


def hash_tokenizer(text: Any) -> str:
    if text is None:
        return ""
    digest = hashlib.sha256()
    for token, index in sorted(text.get_vocab().items(), key=lambda item: (item[1], item[0])):
        digest.update(f"{index}\0{token}\0".encode())
    for special in (text.bos_token, text.eos_token, getattr(text, "chat_template", None)):
        digest.update(f"{special}\0".encode())
    return digest.hexdigest()
