"""Forward passes with explicit mask and positions: full, packed, or resumed at a layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from neva_tl.core.errors import InputError
from neva_tl.models.eval_mode import evaluating
from neva_tl.models.facts import MEMO, info, is_bridge
from neva_tl.models.hooks import add_hook, has_hooks, hook_name, record_hooks
from neva_tl.models.packed import packed_pass, packs, shares_weights
from neva_tl.models.pass_spec import PassSpec
from neva_tl.models.passes import KVCache, bridge_pass, hooked_pass
from neva_tl.models.plain_norms import plain_norms
from neva_tl.models.resume import LayerCache, resumes, resumption, start_at
from neva_tl.models.types import BridgeModel, HookHandle, Model


def forward(
    model: Model,
    tokens: Int[Tensor, "b n"],
    mask: Bool[Tensor, "b n"],
    *,
    stop_at_layer: int | None = None,
    logits: bool = True,
    positions: Int[Tensor, " m"] | None = None,
    scored: Bool[Tensor, "b n"] | None = None,
    past: KVCache | None = None,
    last: bool = False,
    packed: bool = False,
    grad: bool = False,
) -> Tensor | None:
    """One forward pass with explicit mask and positions (left padding is right on every architecture).

    Runs in evaluation mode; a model in training mode gets its mode back.

    Args:
        model: The model.
        tokens: Token ids; with `past` only the new ones.
        mask: True for real tokens, False for padding.
        stop_at_layer: Stop after block `stop_at_layer - 1`, without logits.
        logits: False skips the LM head.
        positions: Return logits at these positions only (the same for all rows).
        scored: Return logits of these tokens only, in reading order; the LM head runs on no other token.
        past: The cache to read and extend (`KVCache()` starts an empty one).
        last: The caller does not use `past` any more; the pass may leave it unfit for use.
        packed: Run the real tokens alone, end to end: hook points of blocks and MLPs see `[1, t, ...]`, those inside
            attention and norms do not fire. No logits, no cache; only where the model is `packable`.
        grad: Keep the graph; parameters of loaded models take no gradients, activations can.

    Returns:
        Logits `[b, n or m, d_vocab]`, with `scored` `[m, d_vocab]`, or None.

    Example:
        >>> batch = nv.inference.encode(model, [nv.Example("", "mara says that")])
        >>> logits = nv.models.forward(model, batch.tokens, batch.mask)
        >>> tuple(logits.shape)
        (1, 4, 1001)
    """
    spec = PassSpec(stop_at_layer, logits, positions, scored, packed, grad)
    return run_pass(model, tokens, mask, spec, past=past, last=last)


def run_pass(
    model: Model,
    tokens: Int[Tensor, "b n"],
    mask: Bool[Tensor, "b n"],
    spec: PassSpec,
    *,
    past: KVCache | None = None,
    last: bool = False,
) -> Tensor | None:
    """`forward` with its options as one record.

    Args:
        model: The model.
        tokens: Token ids; with `past` only the new ones.
        mask: True for real tokens, False for padding.
        spec: The options of the pass.
        past: The cache to read and extend.
        last: The caller does not use `past` any more.

    Returns:
        Logits, or None.
    """
    if spec.packed:
        if not is_bridge(model):
            raise InputError("packed passes need a TransformerBridge: models.packable says where they can run")
        with spec.grad_mode(), evaluating(model):
            packed_pass(model, tokens, mask, spec)
        return None
    resumed = None if spec.grad or spec.stop_at_layer is not None else resumption(model)
    begins = past is not None and past.state is None

    def go() -> Tensor | None:
        if is_bridge(model):
            with plain_norms(model):
                return bridge_pass(model, tokens, mask, spec, past)
        return hooked_pass(model, tokens, mask, spec, past)

    with spec.grad_mode(), evaluating(model):
        out = go() if resumed is None else resumed.cache.run(resumed.layer, tokens, mask, past, last, go)
    if past is not None and begins:
        past.parts = (tokens, mask)
        past.clean = resumed.layer if resumed is not None else 0 if has_hooks(model) else int(model.cfg.n_layers)
    elif past is not None:
        past.parts = None
    return out


def packable(model: Model) -> bool:
    """Whether `forward(packed=True)` gives the activations of a padded pass on this model.

    Tried on three short texts, once per model. False while the model has hooks: they would get other shapes or, inside
    attention and norms, would not be called.

    Example:
        >>> nv.models.packable(model)
        True
    """
    if not is_bridge(model) or has_hooks(model) or not shares_weights(model):
        return False
    parameter = next(model.parameters())
    return MEMO.get(model, ("packs", parameter.dtype, parameter.device), lambda: _packs(model))


def _packs(model: BridgeModel) -> bool:
    names = [hook_name(model, layer, site) for layer in range(info(model).n_layers) for site in ("post", "resid_post")]
    return packs(model, partial(forward, model), partial(record_hooks, model, names))


@contextmanager
def resuming(model: Model, cache: LayerCache, layer: int) -> Iterator[None]:
    """Start passes at `layer` inside the block, where the cache holds that layer's input.

    A pass whose layer input is not cached runs in full and caches it. Exact while only that layer and those above it are
    edited. Blocks may be nested: the innermost one of a model decides, and the outer one decides again after it. The block
    has no effect on layer 0, on a model that carries hooks already, and on an architecture on which a trial of a few tokens
    (once per model) fails: passes run in full there, or from the layer of an outer block.

    Args:
        model: The model.
        cache: The layer inputs cached so far, made for this model.
        layer: 0-based, the lowest layer that is edited inside the block.

    Raises:
        InputError: The cache was made for another model.

    Example:
        >>> cache = nv.models.LayerCache(model)
        >>> with nv.models.resuming(model, cache, 2):  # passes inside run layers 2 and 3 only, once cached
        ...     scores, n = nv.answer_logprobs(model, [nv.Example("mara says", "that")])
    """
    if cache.model is not model:
        raise InputError("this LayerCache was made for another model: make one for this model")
    if layer < 1 or has_hooks(model) or not MEMO.get(model, "resumes", lambda: _resumes(model)):
        yield
        return
    with start_at(model, cache, layer):
        yield


def _resumes(model: Model) -> bool:
    def silence(layer: int) -> HookHandle | RemovableHandle:
        return add_hook(model, hook_name(model, layer, "post"), lambda x, **_: torch.zeros_like(x))

    return resumes(model, partial(forward, model), silence)
