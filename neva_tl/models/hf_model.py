"""A plain transformers model as edits see it: facts and hook points of its TransformerLens twin, found on its own modules.

A private part of models.py. The twin is booted around a copy of the module tree that shares every weight with the model, is
asked once, and forgotten: so each architecture that TransformerLens maps is known, nothing is rewired, and no second copy of
the weights is held (GPT-2's joint attention weights are split, and freed again).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from neva_tl.core.errors import InputError
from neva_tl.models import sources
from neva_tl.models.types import ModelInfo

#: Hook point's name -> the module's name, and whether it is what goes `in` or what comes `out`.
Places = dict[str, tuple[str, str]]


@dataclass(frozen=True, eq=False)
class PlainFacts:
    """What is known of a plain model; holds nothing of the model itself."""

    info: ModelInfo
    fingerprint: Mapping[str, Any]
    places: Places
    activation: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class PlainModel:
    """A transformers model with the hook points that `models.add_hook` and its companions need."""

    hf: nn.Module
    facts: PlainFacts

    def add_hook(self, name: str, fn: Callable[..., Any]) -> RemovableHandle:
        """Put `fn(x, hook=...)` on a hook point; a tensor it returns replaces `x`.

        Raises:
            InputError: no module of this model takes in or gives out what the hook point stands for.
        """
        if name not in self.facts.places:
            raise InputError(
                f"no module of {self.facts.info.name} stands for the hook point {name!r}: edit it as a TransformerLens "
                "model (neva_tl.load, neva_tl.edit)"
            )
        module, side = self.facts.places[name]
        at = self.hf.get_submodule(module)
        if side == "in":
            return at.register_forward_pre_hook(_before(fn), with_kwargs=True)
        return at.register_forward_hook(_after(fn))


def _before(fn: Callable[..., Any]) -> Callable[..., Any]:
    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            new = fn(args[0], hook=None)
            return None if new is None else ((new, *args[1:]), kwargs)
        name = next(key for key, given in kwargs.items() if isinstance(given, Tensor))
        new = fn(kwargs[name], hook=None)
        return None if new is None else (args, kwargs | {name: new})

    return before


def _after(fn: Callable[..., Any]) -> Callable[..., Any]:
    def after(module: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
        if isinstance(out, tuple):
            new = fn(out[0], hook=None)
            return None if new is None else (new, *out[1:])
        return fn(out, hook=None)

    return after


def check(hf: Any) -> None:
    """Refuse what is no language model of transformers.

    Raises:
        InputError: with what it is instead.
    """
    if not isinstance(hf, nn.Module) or not hasattr(hf, "config") or not hasattr(hf, "generate"):
        raise InputError(
            f"expected a transformers language model (AutoModelForCausalLM.from_pretrained gives one), not {type(hf).__name__}"
        )


def check_architecture(hf: Any) -> None:
    """Refuse encoder-decoders and mixtures of experts. Reads the whole configuration, which takes as long as a small step.

    Raises:
        InputError: with what it is instead.
    """
    config: Any = hf.config
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(f"{type(hf).__name__} is an encoder-decoder: edits are for decoder language models")
    sources.refuse_experts(sources.Source(shown(hf), config=config.to_dict()))


def shown(hf: Any) -> str:
    """The model's name without a user's path."""
    name = str(getattr(hf.config, "_name_or_path", "") or "")
    return sources.label(name) if name else type(hf).__name__


def twin(hf: Any) -> tuple[Any, dict[int, str]]:
    """A `TransformerBridge` that shares the weights, and the name of each module of the tree it was booted around, by id.

    Raises:
        InputError: TransformerLens does not know the architecture.
    """
    from transformer_lens.model_bridge import TransformerBridge

    tree = copy.deepcopy(hf, {id(tensor): tensor for tensor in chain(hf.parameters(), hf.buffers())})
    tree.config.architectures = tree.config.architectures or [type(hf).__name__]
    names = {id(module): name for name, module in tree.named_modules()}
    parameter = next(hf.parameters())
    try:
        with sources.quiet():
            bridge = TransformerBridge.boot_transformers(
                shown(hf),
                hf_model=tree,
                device=str(parameter.device),
                dtype=parameter.dtype,
                tokenizer=_no_tokenizer(),
            )
    except (ValueError, KeyError, AttributeError, NotImplementedError, RuntimeError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"TransformerLens cannot read {type(hf).__name__}: {line}") from error
    return bridge, names


def places(bridge: Any, names: Mapping[int, str], wanted: Iterable[str]) -> Places:
    """Where each of the wanted hook points lies among the modules; those that lie at none are left out."""
    ends = {}
    for component in bridge.modules():
        original = getattr(component, "original_component", None)
        if original is not None and id(original) in names:
            for side in ("in", "out"):
                ends[id(getattr(component, f"hook_{side}", None))] = (names[id(original)], side)
    points = bridge.hook_dict
    return {name: ends[id(points[name])] for name in wanted if name in points and id(points[name]) in ends}


def _no_tokenizer() -> Any:
    """A tokenizer of one token: booting insists on one, and would ask a hub for it."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    one = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<s>")
    raw = Tokenizer(WordLevel({"<s>": 0}, unk_token="<s>"))
    return PreTrainedTokenizerFast(tokenizer_object=raw, name_or_path="", add_bos_token=True, **one)
