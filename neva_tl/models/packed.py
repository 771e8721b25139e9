"""Passes over the real tokens of many texts, end to end in one row: nothing is computed for padding.

A private part of models.py. Projections, norms and MLPs work token by token and do not care which text a token is of; only
attention does. For such a pass transformers' own attention classes run, with an attention function (their registry's) that
sets the texts apart again. TransformerLens recomputes attention and norms step by step, so that their inner hook points fire;
in such a pass those do not, and nothing may sit on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from neva_tl.models.facts import MEMO
from neva_tl.models.pass_spec import PassSpec
from neva_tl.models.passes import accepted_arguments, running
from neva_tl.models.types import BridgeModel

#: Under which name transformers knows the attention function.
_NAME = "neva_tl_packed"
#: Arguments of an attention function that say nothing of what attends to what, or that are honoured; others are refused.
_KNOWN = {
    "dropout",
    "scaling",
    "sliding_window",
    "is_causal",
    "position_ids",
    "cache_position",
    "use_cache",
    "logits_to_keep",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
}
#: How far a packed pass may be from a padded one, as a share of a token's activations: rounding alone by the number format.
_ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-3}
_COARSE_ROUNDING = 0.1


class CannotPackError(Exception):
    """An attention function was asked for something that texts in one row do not have."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Which text each token of the row is of, and where in that text it stands.

    Attributes:
        mask: padded texts whose real tokens the row holds, in reading order.
        asked: the attention modules that were given this layout, in order.
    """

    mask: Bool[Tensor, "b n"]
    asked: list[nn.Module] = field(default_factory=list)

    @cached_property
    def positions(self) -> Int[Tensor, " t"]:
        """Each token's position in its text."""
        return (self.mask.long().cumsum(1) - 1)[self.mask]

    @cached_property
    def places(self) -> Int[Tensor, " t"]:
        """Where each token lies when the texts are set apart: padding behind them, on whatever side it was."""
        return self.mask.nonzero()[:, 0] * self.mask.shape[1] + self.positions

    @cached_property
    def even(self) -> bool:
        """Whether there is no padding at all."""
        return len(self.places) == self.mask.numel()

    def apart(self, x: Tensor) -> Tensor:
        """`[1, head, t, d]` -> `[b, head, n, d]`, zeros at padding."""
        rows, width = self.mask.shape
        if self.even:
            return x[0].unflatten(1, (rows, width)).transpose(0, 1)
        out = x.new_zeros((rows * width, x.shape[1], x.shape[3]))
        out[self.places.to(x.device)] = x[0].transpose(0, 1)
        return out.unflatten(0, (rows, width)).transpose(1, 2)

    def together(self, x: Tensor) -> Tensor:
        """`[b, n, head, d]` -> `[1, t, head, d]`."""
        flat = x.flatten(0, 1)
        return (flat if self.even else flat[self.places.to(x.device)])[None]


_LAYOUT: ContextVar[Layout | None] = ContextVar("layout of the packed pass", default=None)


def packed_pass(model: BridgeModel, tokens: Tensor, mask: Tensor, spec: PassSpec) -> Layout:
    """One pass over the real tokens; hook points of the blocks and MLPs see them as one row, `[1, t, ...]`.

    Gives the layout back, with the attention modules that asked for it.
    """
    layout = Layout(mask)
    accepted = accepted_arguments(model.original_model)
    options: dict[str, Any] = {"position_ids": layout.positions[None]} if "position_ids" in accepted else {}
    if spec.stops_before(int(model.cfg.n_layers)):
        options["stop_at_layer"] = spec.stop_at_layer
    else:
        options["use_cache"] = False
        if "logits_to_keep" in accepted:
            # no position at all: the head costs nothing
            options["logits_to_keep"] = torch.zeros(0, dtype=torch.long, device=tokens.device)
    with _as_transformers_does(model), _attending(model, layout):
        model(tokens[mask][None], return_type=None, **options)
    return layout


def packs(
    model: BridgeModel, forward: Callable[..., Any], watched: Callable[[], AbstractContextManager[dict[str, Tensor]]]
) -> bool:
    """Whether packed passes give on this model what padded ones do: tried on three short texts.

    Args:
        forward: runs a padded pass (`models.forward` of this model).
        watched: a block in which what passes all layers' `hook_post` and `hook_resid_post` is kept, by name.
    """
    if getattr(model.original_model.config, "attention_chunk_size", None):
        return False  # chunks are told to the mask alone
    vocab, device = int(model.cfg.d_vocab), next(model.parameters()).device
    tokens = (torch.arange(21, device=device).reshape(3, 7) * 7 + 1) % vocab
    mask = torch.arange(7, device=device) < torch.tensor([[5], [7], [3]], device=device)
    try:
        with watched() as padded:
            forward(tokens, mask, logits=False)
        with watched() as packed, torch.no_grad():
            asked = packed_pass(model, tokens, mask, PassSpec(packed=True)).asked
    # an architecture that takes no such attention function fails in its own way
    except (CannotPackError, RuntimeError, TypeError, AttributeError, LookupError, ValueError, ImportError):
        return False
    if len(asked) != int(model.cfg.n_layers) or padded.keys() != packed.keys():
        return False
    return all(_alike(packed[name][0], x[mask.to(x.device)]) for name, x in padded.items())


def shares_weights(model: BridgeModel) -> bool:
    """Whether attention's weights as TransformerLens runs them are those of the classes it wraps (GPT-2's are split copies)."""
    for attention in _attentions(model):
        inner = attention.original_component
        held = {p.untyped_storage().data_ptr() for p in inner.parameters()}
        if any(p.untyped_storage().data_ptr() not in held for p in attention.parameters()):
            return False
    return True


def _alike(x: Tensor, y: Tensor) -> bool:
    """Whether two `[t, k]` differ by rounding alone, token by token."""
    limit = _ROUNDING.get(y.dtype, _COARSE_ROUNDING)
    x, y = x.float(), y.float()
    return bool(((x - y).norm(dim=-1) <= limit * y.norm(dim=-1)).all())


def _attentions(model: BridgeModel) -> list[Any]:
    """The blocks' attention, of those that have one (state-space blocks do not)."""
    found = [getattr(block, "attn", None) for block in model.blocks]
    return [part for part in found if isinstance(getattr(part, "original_component", None), nn.Module)]


@contextmanager
def _as_transformers_does(model: BridgeModel) -> Iterator[None]:
    """Attention and norms as transformers has them, without the hook points that TransformerLens puts inside."""
    # going through all modules takes as long as a small pass
    parts = MEMO.get(model, "attention and norms", lambda: _attentions_and_norms(model))
    with running([(part, part.original_component) for part in parts]):
        yield


def _attentions_and_norms(model: BridgeModel) -> list[Any]:
    from transformer_lens.model_bridge.generalized_components import NormalizationBridge

    norms = [part for part in model.modules() if isinstance(part, NormalizationBridge)]
    return [part for part in (*_attentions(model), *norms) if part.original_component is not None]


@contextmanager
def _attending(model: BridgeModel, layout: Layout) -> Iterator[None]:
    """Inside, transformers' attention classes call `_attend` with this layout."""
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _attend)
    found = [model.original_model.config, *(part.original_component.config for part in _attentions(model))]
    configs = list({id(config): config for config in found}.values())
    before = [config._attn_implementation_internal for config in configs]
    token = _LAYOUT.set(layout)
    for config in configs:
        config._attn_implementation_internal = _NAME
    try:
        yield
    finally:
        _LAYOUT.reset(token)
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation_internal = name


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Causal attention within each text; `[1, head, t, d]` each, `[1, t, head, d]` back.

    Raises:
        CannotPackError: a mask, a soft cap, sinks or what else is not honoured here.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    layout = _LAYOUT.get()
    asked = [name for name, given in options.items() if name not in _KNOWN and given is not None]
    causal = options.get("is_causal", True) is not False and getattr(module, "is_causal", True)
    if layout is None or attention_mask is not None or asked or not causal or query.shape[0] != 1:
        raise CannotPackError(f"this attention asks for {', '.join(asked) or 'a mask'}")
    layout.asked.append(module)
    window = options.get("sliding_window")
    query, key, value = (layout.apart(x) for x in (query, key, value))
    out, _ = sdpa_attention_forward(
        module, query, key, value, _band(query, window), scaling=options.get("scaling"), is_causal=True
    )
    return layout.together(out), None


def _band(query: Tensor, window: int | None) -> Tensor | None:
    """Which keys a query sees where a window is shorter than the texts; None where causality alone says it."""
    width = query.shape[2]
    if window is None or window >= width:
        return None
    at = torch.arange(width, device=query.device)
    behind = at[:, None] - at[None]
    return ((behind >= 0) & (behind < window))[None, None]
