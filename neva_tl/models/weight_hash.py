"""Hashes of weights and tokenizer, equal where two models are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from neva_tl.models.types import Model

#: Weights of a block in TransformerLens's layout: module -> names, the same on both its classes.
_BLOCK = {
    "ln1": ("w", "b"),
    "attn": ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"),
    "ln2": ("w", "b"),
    "mlp": ("W_in", "W_gate", "W_out", "b_in", "b_out"),
}
_ENDS = {"embed": ("W_E",), "pos_embed": ("W_pos",), "ln_final": ("w", "b"), "unembed": ("W_U", "b_U")}


def hash_weights(model: Model) -> str:
    """Hash names, shapes, dtypes and bytes of the weights in TransformerLens's layout (sha256).

    Equal for a `TransformerBridge` and a `HookedTransformer` with the same weights: key and value heads are taken before
    they are repeated for grouped queries, and tensors of zeros alone (biases that only one class makes) are left out.
    An architecture without these names is hashed by its parameters' own names.
    """
    tensors = dict(_named(model))
    required = {f"blocks.{layer}.{name}" for layer in range(len(model.blocks)) for name in ("attn.W_Q", "mlp.W_out")}
    if not required <= tensors.keys():
        tensors = dict(model.named_parameters())
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        if bool(tensor.any()):
            digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}".encode())
            digest.update(tensor.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _named(model: Model) -> Iterator[tuple[str, torch.Tensor]]:
    for module, names in _ENDS.items():
        yield from _of(getattr(model, module, None), module, names)
    for layer, block in enumerate(model.blocks):
        for module, names in _BLOCK.items():
            yield from _of(getattr(block, module, None), f"blocks.{layer}.{module}", names)


def _of(owner: Any, prefix: str, names: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
    for name in names:
        # HookedTransformer keeps the unrepeated key and value heads under a leading underscore
        weight = getattr(owner, f"_{name}", None)
        weight = getattr(owner, name, None) if weight is None else weight
        if isinstance(weight, torch.Tensor):
            yield f"{prefix}.{name}", weight


def hash_tokenizer(tokenizer: Any) -> str:
    """Hash vocabulary, special tokens and chat template (sha256); empty without a tokenizer."""
    if tokenizer is None:
        return ""
    digest = hashlib.sha256()
    for token, index in sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0])):
        digest.update(f"{index}\0{token}\0".encode())
    for special in (tokenizer.bos_token, tokenizer.eos_token, getattr(tokenizer, "chat_template", None)):
        digest.update(f"{special}\0".encode())
    return digest.hexdigest()
