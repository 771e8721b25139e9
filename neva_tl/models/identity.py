"""The function that a model computes beyond its main weights: settings, norms, adapters; and comparison of fingerprints.

`weights_hash` covers the weights with a name in TransformerLens's common layout. Two checkpoints can share all of these and
still compute different functions (another rope base, trained q/k norms, a LoRA adapter). Version 0.1 had that hash only.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from neva_tl.core.cache import content_key
from neva_tl.core.files import to_json
from neva_tl.models.types import Model
from neva_tl.models.weight_hash import feed, is_common, named_weights

#: Keys of a transformers configuration that change the function of a given set of weights.
_SETTING = re.compile(
    "act_fn|^activation|_activation|hidden_act|eps|rope|rotary|softcap|scal|multiplier|window|sliding|layer_types"
    "|attention_layers|attention_types|alibi|parallel|layernorm|layer_norm|norm_type|qk_norm|clip_qkv|bidirectional"
    "|attn_config|embedding_fraction|do_layer_norm|is_causal"
)
#: Keys that match and change nothing: numerics of one implementation.
_NUMERICS = re.compile("fp32|upcast|elementwise_affine|^init|sub_configs|summary")
_ACTIVATION = ("hidden_act", "hidden_activation", "activation_function", "activation", "afn")
_EPS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon")
#: Names of equal functions.
_SAME_ACTIVATION = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "swish": "silu",
}
#: Parts of a module's name that TransformerLens adds.
_WRAPPERS = ("._original_component", ".original_component")
#: Artefacts that were noted in this process.
_NOTED: set[str] = set()
#: Endings of joint query-key-value weights, whose parts are hashed as W_Q, W_K, W_V.
_JOINT = (".qkv.weight", ".qkv.bias")


def function_facts(model: Model, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the facts about a model's function that `weights_hash` does not cover.

    Args:
        model: A TransformerLens model.
        config: The checkpoint's configuration in transformers' form, where the model does not carry it.

    Returns:
        `settings` (name -> plain data: activation, norm_eps, rope, soft caps, windows, scales), `other_weights` (sha256 of
        the parameters and persistent buffers without a common name, after the layout `hf:` or `tl:`; empty when there are
        none), and `adapters` (hash of the active PEFT adapters and their scales; empty without one).
    """
    original = getattr(model, "original_model", None)
    if config is None and hasattr(getattr(original, "config", None), "to_dict"):
        config = original.config.to_dict()  # type: ignore[union-attr]
    return {
        "settings": _from_config(config) if config is not None else _from_hooked(model.cfg),
        "other_weights": other_weights(model),
        "adapters": adapters(model if original is None else original),
    }


def _from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key, content in config.items():
        if key in _ACTIVATION:
            settings["activation"] = _SAME_ACTIVATION.get(content, content) if isinstance(content, str) else content
        elif key in _EPS:
            settings["norm_eps"] = content
        elif _SETTING.search(key) and not _NUMERICS.search(key):
            if isinstance(content, Mapping):  # a nested configuration, or rope's parameters
                content = {k: v for k, v in content.items() if "rope" in key or _SETTING.search(k)}
            settings[key] = content
    return dict(sorted(to_json(settings).items()))


def _from_hooked(cfg: Any) -> dict[str, Any]:
    """Settings of a `HookedTransformer` that was loaded without its checkpoint's configuration."""
    name = str(getattr(cfg, "act_fn", "") or "")
    settings = {"activation": _SAME_ACTIVATION.get(name, name), "norm_eps": getattr(cfg, "eps", None)}
    for key in (
        "rotary_base",
        "rotary_dim",
        "attn_scale",
        "attn_scores_soft_cap",
        "output_logits_soft_cap",
        "window_size",
        "attn_types",
        "use_NTK_by_parts_rope",
        "NTK_by_parts_factor",
        "parallel_attn_mlp",
        "scale_attn_by_inverse_layer_idx",
    ):
        settings[f"tl_{key}"] = getattr(cfg, key, None)
    return dict(sorted(to_json(settings).items()))


def other_weights(model: Model, dtype: torch.dtype | None = None) -> str:
    """Hash the parameters and persistent buffers that `weights_hash` leaves out, after their layout; empty without any.

    Args:
        model: A TransformerLens model.
        dtype: Number format to which the weights are rounded first; None takes them as they are.
    """
    original = getattr(model, "original_model", None)
    if not is_common(model):  # weights_hash covers all parameters
        return ""
    common = {_place(tensor) for _, tensor in named_weights(model)}
    owner, layout = (model, "tl") if original is None else (original, "hf")
    digest, n_fed = hashlib.sha256(), 0
    for name, tensor in sorted(_stored(owner, buffers=original is not None)):
        if _place(tensor) not in common and not name.endswith(_JOINT):
            n_fed += feed(digest, name, tensor, dtype)
    return f"{layout}:{digest.hexdigest()}" if n_fed else ""


def _place(tensor: torch.Tensor) -> tuple[str, int]:
    return str(tensor.device), tensor.untyped_storage().data_ptr()


def _stored(owner: Any, buffers: bool) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters, and persistent buffers where asked for, under names without TransformerLens's wrappers."""
    known: set[int] = set()
    for prefix, module in owner.named_modules():
        tables = [module._parameters]
        if buffers:
            persistent = {k: v for k, v in module._buffers.items() if k not in module._non_persistent_buffers_set}
            tables.append(persistent)
        for table in tables:
            for name, tensor in table.items():
                if tensor is not None and id(tensor) not in known:
                    known.add(id(tensor))
                    full = f".{prefix}"
                    for wrapper in _WRAPPERS:
                        full = full.replace(wrapper, "")
                    yield f"{full}.{name}".lstrip("."), tensor


def adapters(root: Any) -> str:
    """Hash the active PEFT adapters of a module tree with their scales; empty without one.

    Args:
        root: A model.
    """
    if not isinstance(root, nn.Module):
        return ""
    active = []
    for name, module in root.named_modules():
        scaling = getattr(module, "scaling", None)
        if isinstance(scaling, dict) and hasattr(module, "active_adapters"):
            used = [] if getattr(module, "disable_adapters", False) else list(module.active_adapters)
            merged = list(getattr(module, "merged_adapters", ()))
            for wrapper in _WRAPPERS:
                name = name.replace(wrapper, "")
            active.append([name, [[key, float(scaling.get(key, 1.0))] for key in used], merged])
    return content_key(active) if active else ""


def fingerprint_difference(stored: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """Describe how two fingerprints differ; empty when they belong to one model and tokenizer.

    Only facts that both sides have are compared: a fingerprint of version 0.1 has no `function`.

    Args:
        stored: Fingerprint of an artefact.
        current: Fingerprint of the model, or of another artefact.

    Example:
        >>> stored = nv.fingerprint(model)
        >>> nv.models.fingerprint_difference(stored, nv.fingerprint(model))
        ''
        >>> nv.models.fingerprint_difference(stored, {**stored, "n_layers": 12}) != ""
        True
    """
    if bool(stored) != bool(current):
        return "one has no fingerprint"
    words = {"weights_hash": "other weights", "tokenizer_hash": "another tokenizer"}
    for name in sorted(stored.keys() & current.keys() - {"function"}):
        if stored[name] != current[name]:
            return words.get(name, f"{name} {stored[name]!r}, here {current[name]!r}")
    if stored.get("matmul", "") != current.get("matmul", ""):
        return "matrix products in another precision"
    return function_difference(stored, current)


def function_difference(stored: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """Describe how the functions of two models with the same main weights differ; empty when nothing tells them apart.

    Args:
        stored: Fingerprint of an artefact.
        current: Fingerprint of the model.

    Example:
        >>> nv.models.function_difference(nv.fingerprint(model), nv.fingerprint(model))
        ''
    """
    before, now = stored.get("function"), current.get("function")
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return ""
    if before.get("adapters", "") != now.get("adapters", ""):
        return "other adapters, or other scales of them"
    weights = [str(side.get("other_weights", "")) for side in (before, now)]
    # the two layouts name further weights differently, and cannot be compared
    if weights[0] != weights[1] and len({text[:3] for text in weights if text}) < 2:
        return "other norms or further weights"
    old, new = before.get("settings"), now.get("settings")
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted(old.keys() & new.keys()):
            if old[name] != new[name]:
                return f"another {name} ({old[name]!r}, here {new[name]!r})"
    return ""


def note_old(stored: Mapping[str, Any], what: str) -> None:
    """Warn that an artefact's fingerprint is one of version 0.1, which does not cover the model's function.

    Args:
        stored: Fingerprint of the artefact.
        what: The artefact, for the message.

    Example:
        >>> nv.models.note_old(nv.fingerprint(model), "the edit")  # nothing to warn of
    """
    if stored.get("weights_hash") and "function" not in stored and what not in _NOTED:
        _NOTED.add(what)
        warnings.warn(
            f"{what} was made by version 0.1: its fingerprint covers the main weights, but neither further norms and adapters "
            "nor settings such as rope; accepted by that fingerprint",
            UserWarning,
            stacklevel=3,
        )
