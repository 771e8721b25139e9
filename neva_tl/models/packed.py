"""Passes over the real tokens of many texts, end to end in one row, without computation for padding.

Projections, norms and MLPs work token by token; only attention depends on the text of a token. In a packed pass transformers'
own attention classes run, with a registered attention function that separates the texts again. TransformerLens recomputes
attention and norms step by step, so that their inner hook points fire; in a packed pass these do not fire, and must not carry
hooks.
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

#: Name of the attention function in transformers' registry.
_NAME = "neva_tl_packed"
#: Attention arguments that are supported or do not change the attention pattern; any other raises CannotPackError.
_SUPPORTED = {
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
#: Largest distance of a packed pass from a padded one, relative to a token's activations: rounding of the dtype.
_ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-3}
_COARSE_ROUNDING = 0.1


class CannotPackError(Exception):
    """Raised where an attention function needs what texts in one row do not support."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The text of each token of the row, and its position in that text.

    Attributes:
        mask: Padding mask of the texts; the row holds their real tokens in reading order.
        attended: The attention modules that used this layout, in order.
    """

    mask: Bool[Tensor, "b n"]
    attended: list[nn.Module] = field(default_factory=list)

    @cached_property
    def positions(self) -> Int[Tensor, " t"]:
        """Each token's position in its text."""
        return (self.mask.long().cumsum(1) - 1)[self.mask]

    @cached_property
    def slots(self) -> Int[Tensor, " t"]:
        """Flat index of each token among separated texts, which are padded on the right."""
        return self.mask.nonzero()[:, 0] * self.mask.shape[1] + self.positions

    @cached_property
    def even(self) -> bool:
        """Whether the texts have no padding."""
        return len(self.slots) == self.mask.numel()

    def apart(self, x: Tensor) -> Tensor:
        """`[1, head, t, d]` -> `[b, head, n, d]`, zeros at padding."""
        rows, width = self.mask.shape
        if self.even:
            return x[0].unflatten(1, (rows, width)).transpose(0, 1)
        out = x.new_zeros((rows * width, x.shape[1], x.shape[3]))
        out[self.slots.to(x.device)] = x[0].transpose(0, 1)
        return out.unflatten(0, (rows, width)).transpose(1, 2)

    def together(self, x: Tensor) -> Tensor:
        """`[b, n, head, d]` -> `[1, t, head, d]`."""
        flat = x.flatten(0, 1)
        return (flat if self.even else flat[self.slots.to(x.device)])[None]


_LAYOUT: ContextVar[Layout | None] = ContextVar("layout of the packed pass", default=None)


def packed_pass(model: BridgeModel, tokens: Tensor, mask: Tensor, spec: PassSpec) -> Layout:
    """Run the real tokens; hook points of the blocks and MLPs see them as one row, `[1, t, ...]`.

    Returns:
        The layout, with the attention modules that used it.
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
    with _plain_attention_and_norms(model), _attending(model, layout):
        model(tokens[mask][None], return_type=None, **options)
    return layout


def packs(
    model: BridgeModel, forward: Callable[..., Any], recording: Callable[[], AbstractContextManager[dict[str, Tensor]]]
) -> bool:
    """Whether packed passes of this model equal padded ones: a trial on three short texts.

    Args:
        model: The bridge.
        forward: Runs a padded pass (`models.forward` of this model).
        recording: A context that records `hook_post` and `hook_resid_post` of all layers, by name.
    """
    if getattr(model.original_model.config, "attention_chunk_size", None):
        return False  # only the mask carries chunks
    vocab, device = int(model.cfg.d_vocab), next(model.parameters()).device
    tokens = (torch.arange(21, device=device).reshape(3, 7) * 7 + 1) % vocab
    mask = torch.arange(7, device=device) < torch.tensor([[5], [7], [3]], device=device)
    try:
        with recording() as padded:
            forward(tokens, mask, logits=False)
        with recording() as packed, torch.no_grad():
            attended = packed_pass(model, tokens, mask, PassSpec(packed=True)).attended
    # architectures without replaceable attention functions fail in different ways
    except (CannotPackError, RuntimeError, TypeError, AttributeError, LookupError, ValueError, ImportError):
        return False
    if len(attended) != int(model.cfg.n_layers) or padded.keys() != packed.keys():
        return False
    return all(_alike(packed[name][0], x[mask.to(x.device)]) for name, x in padded.items())


def shares_weights(model: BridgeModel) -> bool:
    """Whether attention in TransformerLens uses the weights of the classes it wraps (GPT-2's are split copies)."""
    for attention in _attentions(model):
        inner = attention.original_component
        pointers = {p.untyped_storage().data_ptr() for p in inner.parameters()}
        if any(p.untyped_storage().data_ptr() not in pointers for p in attention.parameters()):
            return False
    return True


def _alike(x: Tensor, y: Tensor) -> bool:
    """Whether two `[t, k]` differ by rounding alone, token by token."""
    limit = _ROUNDING.get(y.dtype, _COARSE_ROUNDING)
    x, y = x.float(), y.float()
    return bool(((x - y).norm(dim=-1) <= limit * y.norm(dim=-1)).all())


def _attentions(model: BridgeModel) -> list[Any]:
    """The attention modules of the blocks that have one (state-space blocks do not)."""
    attentions = [getattr(block, "attn", None) for block in model.blocks]
    return [module for module in attentions if isinstance(getattr(module, "original_component", None), nn.Module)]


@contextmanager
def _plain_attention_and_norms(model: BridgeModel) -> Iterator[None]:
    """Run transformers' own attention and norms, without the hook points of TransformerLens inside them."""
    # going through all modules takes as long as a small pass
    modules = MEMO.get(model, "attention and norms", lambda: _attentions_and_norms(model))
    with running([(module, module.original_component) for module in modules]):
        yield


def _attentions_and_norms(model: BridgeModel) -> list[Any]:
    from transformer_lens.model_bridge.generalized_components import NormalizationBridge

    norms = [module for module in model.modules() if isinstance(module, NormalizationBridge)]
    return [module for module in (*_attentions(model), *norms) if module.original_component is not None]


@contextmanager
def _attending(model: BridgeModel, layout: Layout) -> Iterator[None]:
    """Let transformers' attention classes call `_attend` with this layout inside the block."""
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _attend)
    all_configs = [model.original_model.config, *(module.original_component.config for module in _attentions(model))]
    configs = list({id(config): config for config in all_configs}.values())
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
        CannotPackError: A mask, a soft cap, sinks or another unsupported argument.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    layout = _LAYOUT.get()
    unsupported = [name for name, value in options.items() if name not in _SUPPORTED and value is not None]
    causal = options.get("is_causal", True) is not False and getattr(module, "is_causal", True)
    if layout is None or attention_mask is not None or unsupported or not causal or query.shape[0] != 1:
        raise CannotPackError(f"this attention needs {', '.join(unsupported) or 'a mask'}")
    layout.attended.append(module)
    window = options.get("sliding_window")
    query, key, value = (layout.apart(x) for x in (query, key, value))
    out, _ = sdpa_attention_forward(
        module, query, key, value, _band(query, window), scaling=options.get("scaling"), is_causal=True
    )
    return layout.together(out), None


def _band(query: Tensor, window: int | None) -> Tensor | None:
    """Mask of the keys each query sees, where a window is shorter than the texts; None for plain causal attention."""
    width = query.shape[2]
    if window is None or window >= width:
        return None
    index = torch.arange(width, device=query.device)
    distance = index[:, None] - index[None]
    return ((distance >= 0) & (distance < window))[None, None]
