"""Read the transformers model of a checkpoint: all of its weights, none of its code, and a trial pass to compare with."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from neva_tl.core.errors import InputError

#: Buffers that old checkpoints store and transformers computes: no weights.
_BUFFERS = re.compile(r"(\.inv_freq|\.masked_bias|\.(attn|attention)(\.attention)?\.bias|\.position_ids)$")
#: Config sections of other inputs than text, and names of their modules in checkpoints.
_MODALITIES = ("vision_config", "audio_config", "visual", "vision", "audio", "multi_modal", "image")
#: Ratio of parameters to stored numbers from which a config belongs to another model; tied weights are stored once.
OVERSIZE = 4
#: Token ids of the trial pass before the last one, which differs between its two rows.
_TRIAL = (5, 60, 200, 7, 9)


@dataclass(frozen=True, eq=False)
class TrialPass:
    """A short pass of transformers' own model, before TransformerLens wraps it.

    Attributes:
        tokens: Two rows that differ in their last token.
        logits: `[2, n, d_vocab]`.
        inputs: The input of each module that calls no other one, by the module's name.
        names: Name of each module by id; `modules` keeps the ids valid.
        modules: All modules.
    """

    tokens: Tensor
    logits: Tensor
    inputs: Mapping[str, Tensor]
    names: Mapping[int, str]
    modules: tuple[nn.Module, ...]


def trial_tokens(d_vocab: int, device: torch.device) -> Tensor:
    """Token ids of the trial pass, `[2, n]`: two rows that differ in their last token."""
    last = 1 if d_vocab > 1 else 0
    rows = torch.tensor([[*_TRIAL, 33], [*_TRIAL, 33 + last]], device=device)
    return rows % d_vocab


def refuse_incomplete(name: str, report: Mapping[str, Any], config: Any) -> None:
    """Refuse a checkpoint whose weights are not those of its model.

    Args:
        name: The checkpoint, for messages.
        report: Transformers' loading info: `missing_keys` (tied weights not among them), `unexpected_keys` and
            `mismatched_keys`.
        config: The model's config.

    Raises:
        InputError: Weights are missing (transformers would draw them at random), have other shapes, or belong to no module.
    """
    missing = sorted(report["missing_keys"])
    unexpected = sorted(key for key in report["unexpected_keys"] if not _no_weight(key, config))
    shapes = sorted(report["mismatched_keys"])
    if missing:
        extra = f", and holds {_first(unexpected)} instead" if unexpected else ""
        raise InputError(
            f"{name} lacks weights that its config names: {_first(missing)}{extra}; transformers would draw them at random: "
            "save the model again with save_pretrained"
        )
    if shapes:
        key, stored, expected = shapes[0][:3]
        raise InputError(
            f"{name}: {key} has shape {list(stored)} in the checkpoint, {list(expected)} by the config ({len(shapes)} such "
            "weights): config and weights belong to different models, or n_ctx is not the length of learned positions"
        )
    if unexpected:
        raise InputError(
            f"{name} holds weights that no module of its config uses: {_first(unexpected)}; the model would run without them: "
            "correct config.json, or save the model again"
        )
    errors = list(report.get("error_msgs") or [])
    if errors:
        raise InputError(f"cannot read the weights of {name}: {str(errors[0]).strip().splitlines()[0]}")


def refuse_oversized(name: str, where: str, model_class: Any) -> None:
    """Refuse a config of a much larger model than the folder's weights: transformers would allocate it to fill it at random.

    Args:
        name: The checkpoint, for messages.
        where: Its folder.
        model_class: Class of transformers.

    Raises:
        InputError: The config needs more than `OVERSIZE` times the stored numbers.
    """
    from transformers import AutoConfig

    with torch.device("meta"):
        model = model_class.from_config(AutoConfig.from_pretrained(where, trust_remote_code=False))
    needed = sum(parameter.numel() for parameter in model.parameters())
    stored = 0
    for path in Path(where).glob("*.safetensors"):
        with safe_open(path, framework="np") as file:
            stored += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118 (no mapping)
    if needed > OVERSIZE * stored:
        raise InputError(
            f"{name}: config.json describes a model of {needed:,} parameters, the weights are {stored:,} numbers: config and "
            "weights belong to different models"
        )


def _no_weight(key: str, config: Any) -> bool:
    """Whether a stored tensor is a computed buffer, or belongs to the images or sounds of a model that is read as text."""
    if _BUFFERS.search(key):
        return True
    multimodal = any(getattr(config, section, None) is not None for section in _MODALITIES[:2])
    return multimodal and any(word in key for word in _MODALITIES[2:])


def _first(keys: Iterable[str], count: int = 3) -> str:
    names = list(keys)
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


class CheckedClass:
    """A model class whose `from_pretrained` refuses incomplete checkpoints and records a trial pass.

    Args:
        name: The checkpoint, for messages.
        device: Where the model will run; None leaves it where `from_pretrained` put it.
        local: Whether the checkpoint is a folder: only its safetensors are read, never pickled weights.
        model_class: A class of transformers; default: the one that TransformerLens takes for the checkpoint.

    Attributes:
        trial: The trial pass of the latest model; None before, and for a model that does not fit on its devices.
        end_tokens: Token ids at which the checkpoint's own generation ends.
    """

    def __init__(self, name: str, device: torch.device | None, *, local: bool, model_class: Any = None) -> None:
        self.name, self.device, self.local, self.model_class = name, device, local, model_class
        self.trial: TrialPass | None = None
        self.end_tokens: frozenset[int] = frozenset()

    def from_pretrained(self, where: str, **options: Any) -> Any:
        """The transformers model, complete, on its device.

        Raises:
            InputError: Not a causal language model, weights that do not belong together, or a model that cannot run.
        """
        chosen_class = self.model_class or _class_for(self.name, where)
        if self.local:
            refuse_oversized(self.name, where, chosen_class)
        options |= {"trust_remote_code": False, "output_loading_info": True, "ignore_mismatched_sizes": True}
        if self.local:
            options["use_safetensors"] = True
        model, report = chosen_class.from_pretrained(where, **options)
        refuse_incomplete(self.name, report, model.config)
        self.end_tokens = end_tokens(model)
        if any(parameter.is_meta for parameter in model.parameters()):
            return model
        if self.device is not None and getattr(model, "hf_device_map", None) is None:
            model = model.to(self.device)
        self.trial = trial_pass(self.name, model)
        return model


def architecture_of(name: str, where: str) -> str:
    """TransformerLens's name of a checkpoint's architecture.

    Args:
        name: The checkpoint, for messages.
        where: Its folder or hub name.

    Raises:
        InputError: TransformerLens does not have the architecture.
    """
    from transformer_lens.model_bridge.sources.transformers import determine_architecture_from_hf_config
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(where, trust_remote_code=False)
    try:
        return str(determine_architecture_from_hf_config(config))
    except ValueError as error:
        named = ", ".join(config.architectures or ()) or f"model type {config.model_type!r}"
        raise InputError(
            f"{name}: TransformerLens {version('transformer-lens')} has no architecture {named}: use a checkpoint of one that "
            "it has"
        ) from error


def _class_for(name: str, where: str) -> Any:
    """The class that TransformerLens takes, if it is one of causal language models.

    Raises:
        InputError: Another one (masked language models, encoder-decoders, sound, images).
    """
    from transformer_lens.model_bridge.sources.transformers import get_hf_model_class_for_architecture

    architecture = architecture_of(name, where)
    auto_class = get_hf_model_class_for_architecture(architecture)
    if auto_class.__name__ not in ("AutoModelForCausalLM", "AutoModelForImageTextToText"):
        raise InputError(
            f"{name} is not a causal language model ({architecture}, read by {auto_class.__name__}): its tokens see later ones, "
            "so that log-probabilities and generation have no meaning; use a decoder language model"
        )
    return auto_class


def end_tokens(model: Any) -> frozenset[int]:
    """Token ids at which transformers' own generation ends: of generation_config.json, else of config.json."""
    for config in (getattr(model, "generation_config", None), getattr(model, "config", None)):
        ids = getattr(config, "eos_token_id", None)
        if ids is not None:
            return frozenset(int(i) for i in (ids if isinstance(ids, list | tuple) else [ids]))
    return frozenset()


@contextmanager
def _default_attention(model: Any) -> Iterator[None]:
    """Run the attention that transformers takes by itself, inside the block: TransformerLens sets the eager one.

    The two are not equal for every checkpoint (Falcon with ALiBi: the eager one adds it twice).
    """
    everywhere: list[Any] = [getattr(module, "config", None) for module in model.modules()]
    configs = {id(config): config for config in everywhere if hasattr(config, "_attn_implementation_internal")}.values()
    # the fused kernel has no soft cap on attention scores, and Gemma 2 is right in the eager one only
    capped = any(getattr(config, "attn_logit_softcapping", None) is not None for config in configs)
    if capped or not getattr(model, "_supports_sdpa", False):
        yield
        return
    before = [(config, config._attn_implementation_internal, config.output_attentions) for config in configs]
    try:
        for config, implementation, _ in before:
            if implementation == "eager":
                config.output_attentions = False
                config._attn_implementation_internal = "sdpa"
        yield
    finally:
        for config, implementation, outputs in before:
            config._attn_implementation_internal = implementation
            config.output_attentions = outputs


def trial_pass(name: str, model: Any) -> TrialPass:
    """Run a few tokens through transformers' own model.

    Raises:
        InputError: The model cannot run on token ids alone, or its logits are not finite.
    """
    d_vocab = int(model.get_input_embeddings().weight.shape[0])
    tokens = trial_tokens(d_vocab, next(model.parameters()).device)
    names = {id(module): module_name for module_name, module in model.named_modules()}
    inputs: dict[str, Tensor] = {}

    def record(module: nn.Module, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], Tensor) and args[0].is_floating_point():
            inputs[names[id(module)]] = args[0].detach().clone()

    leaves = [module for module in model.modules() if not any(True for _ in module.children())]
    handles = [module.register_forward_pre_hook(record) for module in leaves]
    try:
        with torch.no_grad(), _default_attention(model):
            logits = model(input_ids=tokens, use_cache=False).logits.detach()
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{name}: transformers' own {type(model).__name__} cannot run a short text: {line}") from error
    finally:
        for handle in handles:
            handle.remove()
    if not bool(torch.isfinite(logits).all()):
        raise InputError(
            f"{name}: the logits of a short text are not finite in {str(logits.dtype).removeprefix('torch.')}: the weights are "
            "damaged, or too large for this dtype (use float32 or bfloat16)"
        )
    return TrialPass(tokens, logits, inputs, names, tuple(model.modules()))
