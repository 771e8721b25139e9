"""Norms without the intermediate results that nobody hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from neva_tl.models.facts import MEMO
from neva_tl.models.passes import running
from neva_tl.models.types import BridgeModel


@contextmanager
def plain_norms(model: BridgeModel) -> Iterator[None]:
    """Run transformers' own norms inside the block, where a norm has no hooks.

    TransformerLens computes scale and normalised vector for its hook points, and then runs transformers' norm, whose result it
    returns: without hooks the first half is in vain and takes longer than the second.

    Args:
        model: The bridge.
    """
    norms = MEMO.get(model, "norms", lambda: _norms(model))
    unhooked = [(norm, norm.original_component) for norm, points in norms if not any(map(_is_hooked, points))]
    with running(unhooked):
        yield


def _norms(model: BridgeModel) -> list[tuple[Any, list[Any]]]:
    """The norms that return the result of transformers' own, with their hook points."""
    from transformer_lens.model_bridge.generalized_components import NormalizationBridge

    dtype = next(model.parameters()).dtype
    norms = [module for module in model.modules() if isinstance(module, NormalizationBridge)]
    return [
        (norm, [norm.hook_in, norm.hook_scale, norm.hook_normalized, norm.hook_out])
        for norm in norms
        if norm.original_component is not None
        and (norm.use_native_layernorm_autograd or getattr(norm.config, "layer_norm_folding", False))
        # a norm in another dtype than its input is cast back
        and all(parameter.dtype == dtype for parameter in norm.parameters())
    ]


def _is_hooked(point: Any) -> bool:
    return bool(point._forward_hooks or point._forward_pre_hooks or point._backward_hooks)
