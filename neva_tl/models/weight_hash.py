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


def hash_weights(model: Model, dtype: torch.dtype | None = None) -> str:
    """Hash names, shapes, dtypes and bytes of the weights in TransformerLens's layout (sha256).

    Equal for a `TransformerBridge` and a `HookedTransformer` with the same weights: key and value heads are taken before
    they are repeated for grouped queries, and tensors of zeros alone (biases that only one class makes) are left out.
    An architecture without these names is hashed by its parameters' own names. The further weights of an architecture and
    its settings are in `identity.function_facts`; this hash stays as version 0.1 computed it.

    Args:
        model: The model.
        dtype: Number format to which the weights are rounded first; None takes them as they are.
    """
    tensors = dict(named_weights(model)) if is_common(model) else dict(model.named_parameters())
    digest = hashlib.sha256()
    for name in sorted(tensors):
        feed(digest, name, tensors[name], dtype)
    return digest.hexdigest()


def is_common(model: Model) -> bool:
    """Whether every block has the weights that TransformerLens's layout names (W_Q and W_out)."""
    names = {name for name, _ in named_weights(model)}
    required = {f"blocks.{layer}.{name}" for layer in range(len(model.blocks)) for name in ("attn.W_Q", "mlp.W_out")}
    return required <= names


def feed(digest: Any, name: str, weight: torch.Tensor, dtype: torch.dtype | None = None) -> bool:
    """Hash a tensor's name, shape, dtype and bytes, unless it is all zeros.

    Args:
        digest: A hash of hashlib.
        name: Name of the tensor.
        weight: The tensor.
        dtype: Number format to which real numbers are rounded first; None takes them as they are.

    Returns:
        Whether the tensor was hashed.
    """
    tensor = weight.detach()
    if dtype is not None and tensor.is_floating_point():
        tensor = tensor.to(dtype)
    tensor = tensor.cpu().contiguous()
    if not bool(tensor.any()):
        return False
    digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}".encode())
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return True


def named_weights(model: Model) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights that both TransformerLens classes have, under their common names.

    Args:
        model: A TransformerLens model.
    """
    for module, names in _ENDS.items():
        yield from _of(getattr(model, module, None), module, names)
    for layer, block in enumerate(model.blocks):
        for module, names in _BLOCK.items():
            yield from _of(getattr(block, module, None), f"blocks.{layer}.{module}", names)


def _of(owner: Any, prefix: str, names: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
    for name in names:
        # HookedTransformer keeps the unrepeated key and value heads under a leading underscore
        try:
            weight = getattr(owner, f"_{name}", None)
            weight = getattr(owner, name, None) if weight is None else weight
        except (NotImplementedError, ValueError):  # attention without these matrices (multi-head latent attention)
            continue
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
