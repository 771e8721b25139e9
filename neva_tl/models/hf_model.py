"""A plain transformers model for edits: its own modules, with the facts and hook points of its TransformerLens twin.

The twin is booted around a copy of the module tree that shares every weight with the model, read once and discarded. So every
architecture that TransformerLens maps is supported, the model is not rewired, and its weights are not copied (GPT-2's joint
attention weights are split, and freed again).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.models import sources
from neva_tl.models.installers import no_installer
from neva_tl.models.quiet import quiet
from neva_tl.models.types import ModelInfo

#: Hook point -> name of a module, and whether the point is its input (`in`) or output (`out`).
HookLocations = dict[str, tuple[str, str]]


def stored_transposed(module: nn.Module) -> bool:
    """Whether a module stores its weight as `[in, out]` (GPT-2's Conv1D), not as `[out, in]`.

    Args:
        module: The module.
    """
    return type(module).__name__ == "Conv1D"


@dataclass(frozen=True, eq=False)
class PlainFacts:
    """Facts about a plain model, without a reference to the model."""

    info: ModelInfo
    fingerprint: Mapping[str, Any]
    hook_locations: HookLocations
    activation: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class PlainModel:
    """A transformers model with the hook points that `models.add_hook` and its companions need.

    Example:
        >>> from transformers import AutoModelForCausalLM
        >>> plain = nv.models.plain(AutoModelForCausalLM.from_pretrained(nv.demo.path()))
        >>> handle = plain.add_hook(nv.models.hook_name(plain, 2, "post"), lambda x, hook: None)
        >>> handle.remove()
    """

    hf: nn.Module
    facts: PlainFacts

    __repr__ = brief

    def location(self, name: str) -> tuple[str, str]:
        """Return the module of a hook point and the side of it, `in` or `out`.

        Args:
            name: Name of the hook point.

        Raises:
            InputError: No module of this model has the hook point as its input or output.
        """
        if name not in self.facts.hook_locations:
            raise InputError(
                f"no module of {self.facts.info.name} stands for the hook point {name!r}: edit it as a TransformerLens "
                "model (neva_tl.load, neva_tl.edit)"
            )
        return self.facts.hook_locations[name]

    def add_hook(self, name: str, fn: Callable[..., Any]) -> RemovableHandle:
        """Add `fn(x, hook=...)` to a hook point; a tensor it returns replaces `x`.

        Raises:
            InputError: No module of this model has the hook point as its input or output.
        """
        module, side = self.location(name)
        submodule = self.hf.get_submodule(module)
        if side == "in":
            return submodule.register_forward_pre_hook(_Before(fn), with_kwargs=True)
        return submodule.register_forward_hook(_After(fn))


class _ModuleHook:
    """A hook of a module; it belongs to this model object, and a copy of the model would report to it."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise InputError(
            "a model with an edit on it cannot be copied or pickled: call handle.remove() first, or leave the edit_hf block "
            "(edits themselves can be copied and pickled)"
        )


class _Before(_ModuleHook):
    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            new = self.fn(args[0], hook=None)
            return None if new is None else ((new, *args[1:]), kwargs)
        name = next(key for key, value in kwargs.items() if isinstance(value, Tensor))
        new = self.fn(kwargs[name], hook=None)
        return None if new is None else (args, kwargs | {name: new})


class _After(_ModuleHook):
    def __call__(self, _module: nn.Module, _args: tuple[Any, ...], out: Any) -> Any:
        if isinstance(out, tuple):
            new = self.fn(out[0], hook=None)
            return None if new is None else (new, *out[1:])
        return self.fn(out, hook=None)


def check(hf: Any) -> None:
    """Refuse objects that are not transformers language models.

    Raises:
        InputError: Not a language model; the message names its class.
    """
    if isinstance(hf, nn.Module) and hasattr(hf, "peft_config") and callable(getattr(hf, "get_base_model", None)):
        raise InputError(
            f"{type(hf).__name__} wraps a model: give model.get_base_model(), in which its adapters act (and call that one), "
            "or model.merge_and_unload()"
        )
    if not isinstance(hf, nn.Module) or not hasattr(hf, "config") or not hasattr(hf, "generate"):
        raise InputError(
            f"expected a transformers language model (AutoModelForCausalLM.from_pretrained gives one), not {type(hf).__name__}"
        )


def check_architecture(hf: Any) -> None:
    """Refuse encoder-decoders, mixtures of experts and quantised weights.

    Reads the entire configuration, which takes as long as a small step.

    Raises:
        InputError: The model is one of them.
    """
    config: Any = hf.config
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(f"{type(hf).__name__} is an encoder-decoder: edits are for decoder language models")
    source = sources.Source(display_name(hf), config=config.to_dict())
    sources.refuse_experts(source)
    sources.refuse_quantised(source)


def display_name(hf: Any) -> str:
    """The model's name without a user's path."""
    name = str(getattr(hf.config, "_name_or_path", "") or "")
    return sources.label(name) if name else type(hf).__name__


def twin(hf: Any) -> tuple[Any, dict[int, str]]:
    """Boot a `TransformerBridge` that shares the weights.

    Returns:
        The bridge, and the name of each module of the tree around which it was booted, by id.

    Raises:
        InputError: TransformerLens does not know the architecture.
    """
    from transformer_lens.model_bridge import TransformerBridge

    # weights and hooks stay one object; an accelerate hook holds the weights that it moves
    shared = (*hf.parameters(), *hf.buffers(), *_hooks(hf))
    tree = copy.deepcopy(hf, {id(thing): thing for thing in shared})
    _load_moved_weights(tree)
    tree.config.architectures = tree.config.architectures or [type(hf).__name__]
    names = {id(module): name for name, module in tree.named_modules()}
    parameter = next(tree.parameters())
    try:
        # TransformerLens calls pip for a model with images
        with quiet(), no_installer():
            bridge = TransformerBridge.boot_transformers(
                display_name(hf),
                hf_model=tree,
                device=str(parameter.device),
                dtype=parameter.dtype,
                tokenizer=_no_tokenizer(),
            )
    except (ValueError, KeyError, AttributeError, NotImplementedError, RuntimeError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"TransformerLens cannot read {type(hf).__name__}: {line}") from error
    return bridge, names


def _hooks(hf: nn.Module) -> Iterator[Any]:
    """Hooks of all modules: PyTorch's of a forward pass, and accelerate's."""
    for module in hf.modules():
        yield from module._forward_hooks.values()
        yield from module._forward_pre_hooks.values()
        if "_hf_hook" in vars(module):
            yield vars(module)["_hf_hook"]


def _load_moved_weights(tree: nn.Module) -> None:
    """Put the weights into a copy of a model that accelerate keeps in memory or on disk until each layer runs."""
    if any("_hf_hook" in vars(module) for module in tree.modules()):
        from accelerate.hooks import remove_hook_from_submodules

        remove_hook_from_submodules(tree)


def hook_locations(bridge: Any, module_names: Mapping[int, str], hook_names: Iterable[str]) -> HookLocations:
    """The module input or output at each hook point; points without one are left out."""
    ends = {}
    for component in bridge.modules():
        original = getattr(component, "original_component", None)
        if original is not None and id(original) in module_names:
            for side in ("in", "out"):
                ends[id(getattr(component, f"hook_{side}", None))] = (module_names[id(original)], side)
    points = bridge.hook_dict
    return {name: ends[id(points[name])] for name in hook_names if name in points and id(points[name]) in ends}


def _no_tokenizer() -> Any:
    """A tokenizer of one token; without one, booting would look for a tokenizer on the hub."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    one = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<s>")
    raw = Tokenizer(WordLevel({"<s>": 0}, unk_token="<s>"))
    return PreTrainedTokenizerFast(tokenizer_object=raw, name_or_path="", add_bos_token=True, **one)
