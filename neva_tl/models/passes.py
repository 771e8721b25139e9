"""Forward passes of the two TransformerLens classes, with explicit mask, positions and key-value cache."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from neva_tl.core.errors import WorkError
from neva_tl.models.pass_spec import PassSpec
from neva_tl.models.types import BridgeModel, Model
from neva_tl.models.weights import logit_soft_cap


class KVCache:
    """Key-value cache of the tokens run so far, with their mask; `forward(past=cache)` reads and extends it.

    Tensors inside are never written in place: `rows` shares or gathers them, and the original does not change.

    Attributes:
        parts: Key of the content: the tokens and mask of the first pass and the rows gathered since; None after a
            second pass.
        clean: The entries of the layers below this one come from unedited passes.

    Example:
        >>> batch = nv.inference.encode(model, [nv.Example("", "mara says that")])
        >>> cache = nv.models.KVCache()
        >>> logits = nv.models.forward(model, batch.tokens, batch.mask, past=cache)
        >>> cache.nbytes > 0
        True
    """

    def __init__(self, state: Any = None, mask: Bool[Tensor, "b past"] | None = None) -> None:
        self.state, self.mask = state, mask
        self.parts: tuple[Tensor, ...] | None = None
        self.clean = 0

    def rows(self, index: Int[Tensor, " m"]) -> KVCache:
        """A cache of some rows (repeats allowed), independent of this one."""
        if self.state is None or self.mask is None:
            raise WorkError("an empty key-value cache has no rows")
        state = copy.copy(self.state)
        if hasattr(state, "layers"):  # transformers' DynamicCache
            state.layers = [_gather(layer, ("keys", "values"), index) for layer in state.layers]
        else:  # TransformerLensKeyValueCache
            state.entries = [_gather(entry, ("past_keys", "past_values"), index) for entry in state.entries]
            state.previous_attention_mask = state.previous_attention_mask.index_select(0, index)
        out = KVCache(state, self.mask.index_select(0, index))
        out.parts, out.clean = None if self.parts is None else (*self.parts, index), self.clean
        return out

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return self.size(self._layers())

    @staticmethod
    def size(layers: Sequence[Any]) -> int:
        """Bytes of the keys and values (or states) of some layers."""
        names = ("keys", "values", "past_keys", "past_values")
        tensors = [getattr(layer, name, None) for layer in layers for name in names]
        tensors += [state for layer in layers for name in _STATES for state in getattr(layer, name, {}).values()]
        return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))

    def _layers(self) -> list[Any]:
        return self.state.layers if hasattr(self.state, "layers") else self.state.entries

    def below(self, layer: int) -> tuple[Any, ...]:
        """Keys and values of the layers below one, independent of this cache (tensors are shared)."""
        return tuple(_copied(entry) for entry in self._layers()[:layer])

    def fill(self, below: Sequence[Any]) -> None:
        """Set the entries of the lowest layers, which a pass that skipped them lacks."""
        self._layers()[: len(below)] = [_copied(entry) for entry in below]

    def clear(self) -> None:
        """Empty the cache."""
        self.state = self.mask = self.parts = None
        self.clean = 0


#: Dicts of the states of a convolution or recurrence, which transformers writes in place.
_STATES = ("conv_states", "recurrent_states")


def _copied(entry: Any, index: Tensor | None = None) -> Any:
    """A layer's entry whose states are its own: some of their rows, or all; keys and values are shared."""
    out = copy.copy(entry)
    for name, value in vars(entry).items():
        if isinstance(value, dict):
            setattr(out, name, dict(value))
    for name in _STATES:
        for key, state in getattr(entry, name, {}).items():
            if isinstance(state, Tensor):
                getattr(out, name)[key] = state.clone() if index is None else state.index_select(0, index)
    return out


def _gather(entry: Any, names: Sequence[str], index: Tensor) -> Any:
    out = _copied(entry, index)
    for name in names:
        tensor = getattr(entry, name, None)  # a convolution has states in place of keys and values
        if tensor is not None:
            setattr(out, name, tensor.index_select(0, index))
    return out


def bridge_pass(
    model: BridgeModel, tokens: Tensor, mask: Tensor, spec: PassSpec, past: KVCache | None
) -> Tensor | None:
    """Run a pass of a `TransformerBridge`.

    Args:
        model: The bridge.
        tokens: Token ids `[b, n]`; with `past` only the new ones.
        mask: True for real tokens, False for padding, `[b, n]`.
        spec: The options of the pass.
        past: The cache to read and extend.

    Returns:
        Logits `[b, n or m, d_vocab]`, with `scored` `[m, d_vocab]`, or None.
    """
    full_mask = mask if past is None or past.mask is None else torch.cat([past.mask, mask], dim=1)
    accepted = accepted_arguments(model.original_model)
    options: dict[str, Any] = {"attention_mask": full_mask.long()}
    if "position_ids" in accepted:
        options["position_ids"] = (full_mask.long().cumsum(1) - 1).clamp_min(0)[:, -tokens.shape[1] :]
    if spec.stops_before(int(model.cfg.n_layers)):
        model(tokens, return_type=None, stop_at_layer=spec.stop_at_layer, **options)
        return None
    # no position at all: the head costs nothing
    keep = spec.positions if spec.wants_logits else torch.zeros(0, dtype=torch.long, device=tokens.device)
    cut = "logits_to_keep" in accepted and keep is not None
    if cut:
        options["logits_to_keep"] = keep
    options["use_cache"] = past is not None
    if past is not None and past.state is not None:
        options["past_key_values"] = past.state
    scored = spec.scored if spec.wants_logits else None
    with _head_on(model.original_model, scored):
        out, state = model(tokens, return_type="logits_and_cache", **options)
    if past is not None:
        past.state, past.mask = state, full_mask
    if not spec.wants_logits:
        return None
    if scored is not None:
        # a head that the model does not name has run on all tokens
        return out[0] if out.shape[:2] == (1, int(scored.sum())) else out[scored]
    return out if cut or spec.positions is None else out.index_select(1, spec.positions)


@contextmanager
def _head_on(hf: nn.Module, scored: Tensor | None) -> Iterator[None]:
    """Run the LM head on the scored tokens only, as one row, inside the block."""
    head = None if scored is None else hf.get_output_embeddings()  # type: ignore[operator]
    if head is None:
        yield
        return

    def select_scored(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not args or scored is None or args[0].shape[:2] != scored.shape:
            return None
        return args[0][scored.to(args[0].device)][None], *args[1:]

    handle = head.register_forward_pre_hook(select_scored)
    try:
        yield
    finally:
        handle.remove()


@lru_cache(maxsize=64)
def _signature(forward: Any) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)


def accepted_arguments(module: nn.Module) -> frozenset[str]:
    """Names of the parameters of a module's `forward`."""
    # keyed by the class's function: a bound method would keep its model alive
    return _signature(type(module).forward)


@contextmanager
def running(instead: Sequence[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Replace the `forward` of some modules inside the block: (module, function) pairs."""
    # in the instance's dict: setting an attribute of a bridge sets it on the wrapped module
    namespaces = [vars(module) for module, _ in instead]
    before = [names.get("forward") for names in namespaces]
    for names, (_, forward) in zip(namespaces, instead, strict=True):
        names["forward"] = forward
    try:
        yield
    finally:
        for names, previous in zip(namespaces, before, strict=True):
            if previous is None:
                del names["forward"]
            else:  # accelerate, for one, sets it to move tensors between devices
                names["forward"] = previous


def hooked_pass(model: Model, tokens: Tensor, mask: Tensor, spec: PassSpec, past: KVCache | None) -> Tensor | None:
    """Run a pass of a `HookedTransformer`; arguments and result as in `bridge_pass`."""
    if past is not None and past.state is None:
        from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

        past.state = TransformerLensKeyValueCache.init_cache(model.cfg, tokens.device, tokens.shape[0])
        past.mask = mask[:, :0]
    if past is not None and past.mask is not None:
        past.mask = torch.cat([past.mask, mask], dim=1)
    residual = model(
        tokens,
        return_type=None,
        attention_mask=mask.long(),
        stop_at_layer=int(model.cfg.n_layers) if spec.stop_at_layer is None else spec.stop_at_layer,
        past_kv_cache=None if past is None else past.state,
    )
    if not spec.wants_logits:
        return None
    if spec.positions is not None:
        residual = residual.index_select(1, spec.positions)
    if spec.scored is not None:
        residual = residual[spec.scored.to(residual.device)][None]
    out = model.unembed(model.ln_final(residual))
    if spec.scored is not None:
        out = out[0]
    cap = logit_soft_cap(model)
    return cap * torch.tanh(out / cap) if cap > 0 else out
