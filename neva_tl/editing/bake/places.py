"""find_target(): the plain checkpoint that can hold constants, per architecture.

A factor of a neuron goes into its column of the MLP's output projection, which every architecture has. A step needs a bias of
that projection. The first of these that a model allows is taken:

1. the bias that the model has (GPT-2, GPT-NeoX, OPT, Phi, BLOOM, ...);
2. the same class with its biases switched on (`mlp_bias` of Llama, Granite, ...), all zero but the ones that are written;
3. another class that computes the same function with biases: Llama for Mistral and Qwen 2, SmolLM3 for Mistral with a window;
4. where the caller allows it, one further layer after each edited one, which adds the step (see `extra_layers`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing.bake.extra_layers import insert_layers
from neva_tl.editing.bake.target import Target, empty_model

#: Settings that give an MLP biases.
FLAGS = ("mlp_bias", "use_bias", "enable_bias", "bias")
#: Modules that normalise the MLP's output before it is added to the residual stream.
OUTPUT_NORMS = ("post_feedforward_layernorm", "post_mlp_layernorm", "post_ffw_norm")
#: Settings of Mistral and Qwen 2 that Llama has under the same name.
_SHARED = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim"),
    *("num_key_value_heads", "hidden_act", "max_position_embeddings", "initializer_range", "rms_norm_eps", "use_cache"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "tie_word_embeddings", "rope_parameters", "attention_dropout"),
)


def output_projections(model: models.PlainModel) -> list[str]:
    """Name of the module of each layer whose input is the neurons.

    Args:
        model: The model.

    Raises:
        InputError: A layer without one.
    """
    names = []
    for layer in range(model.facts.info.n_layers):
        module, side = model.facts.hook_locations.get(models.hook_name(model, layer, "post"), ("", ""))
        weight = getattr(model.hf.get_submodule(module), "weight", None) if module and side == "in" else None
        if not isinstance(weight, Tensor) or weight.ndim != 2:
            raise InputError(
                f"no module of {model.facts.info.name} projects the neurons of layer {layer} by one matrix: keep the edit "
                "outside the weights (nv.attach, nv.edit_hf)"
            )
        names.append(module)
    return names


def normalises_output(hf: nn.Module, projection: str) -> bool:
    """Whether a block normalises what its MLP writes, so that a step of the projection is not one of the residual stream.

    Args:
        hf: The model.
        projection: Name of the block's output projection.
    """
    prefix, layer = layer_prefix(projection)
    return any(hasattr(hf.get_submodule(f"{prefix}{layer}"), name) for name in OUTPUT_NORMS)


def layer_prefix(projection: str) -> tuple[str, int]:
    """Split a module's name into the prefix of all layers, with the dot, and the number of its layer.

    Args:
        projection: Name of an output projection, as `model.layers.3.mlp.down_proj`.
    """
    words = projection.split(".")
    position = next(i for i, word in enumerate(words) if word.isdigit())
    return ".".join(words[:position]) + ".", int(words[position])


def find_target(
    hf: nn.Module, projections: Sequence[str], shifted: Sequence[int], pushed: Sequence[int], *, extra_layers: bool
) -> Target:
    """Choose the checkpoint that holds the edit.

    Args:
        hf: The model.
        projections: Name of each layer's output projection.
        shifted: Layers with a step of neurons.
        pushed: Layers with a step of the residual stream.
        extra_layers: Whether further layers may be inserted.

    Raises:
        InputError: No plain checkpoint of this architecture holds the edit.
    """
    own: Any = hf
    normalised = {layer for layer in (*shifted, *pushed) if normalises_output(hf, projections[layer])}
    if not normalised & set(pushed):
        needed = [projections[layer] for layer in sorted({*shifted, *pushed})]
        target = _with_biases(own, needed)
        if target is not None:
            return target
    name = type(hf).__name__
    if normalised & set(shifted):
        raise InputError(
            f"{name} has no bias in its MLP and normalises what the MLP writes, so that no weight holds a step of neurons: "
            "use nv.attach(model, edit), an exported file, or a vector edit of the residual stream (nv.AddVector) with "
            "extra_layers=True"
        )
    inserted = insert_layers(own, tuple(sorted({*shifted, *pushed})))
    if inserted is None:
        raise InputError(
            f"{name} has no place for a bias of its MLP, and no plain class of transformers computes the same with one: use "
            "nv.attach(model, edit), an exported file, or an edit that only scales (nv.Scale, nv.Ablate)"
        )
    if not extra_layers:
        raise InputError(
            f"{name} has no place for a bias of its MLP: extra_layers=True (--extra-layers) adds {len(inserted.inserted)} layers "
            "that hold it exactly, at their cost in time and cache; or use nv.attach(model, edit), or an exported file"
        )
    return inserted


def _with_biases(hf: Any, projections: Sequence[str]) -> Target | None:
    """The model's own class, or one that computes the same, with a bias in every named projection; None without one."""
    biases = [f"{name}.bias" for name in projections]
    current = set(hf.state_dict())
    if current.issuperset(biases):
        return Target(type(hf), copy.deepcopy(hf.config))
    for flag in FLAGS:
        if getattr(hf.config, flag, None) is False:
            config = copy.deepcopy(hf.config)
            setattr(config, flag, True)
            if _only_adds(biases, current, set(empty_model(type(hf), config).state_dict())):
                return Target(type(hf), config, f"`{flag}` is on, and the biases that the edit does not use are zero")
    target = _relative(hf)
    if target is not None and _only_adds(biases, current, set(empty_model(target.kind, target.config).state_dict())):
        return target
    return None


def _only_adds(biases: Sequence[str], before: set[str], after: set[str]) -> bool:
    """Whether a layout has all weights of another one, the named biases, and no further weights than biases."""
    return before <= after and after.issuperset(biases) and all(name.endswith(".bias") for name in after - before)


def _relative(hf: Any) -> Target | None:
    """Another class with the same modules that can have biases."""
    from transformers import LlamaConfig, LlamaForCausalLM, SmolLM3Config, SmolLM3ForCausalLM

    family = getattr(hf.config, "model_type", "")
    if family not in ("mistral", "qwen2"):
        return None
    settings = {name: getattr(hf.config, name) for name in _SHARED if hasattr(hf.config, name)}
    settings |= {"mlp_bias": True, "attention_bias": family == "qwen2"}
    words = f"the {type(hf).__name__} is written as "
    window = _window(hf.config)
    if window is None:
        return Target(LlamaForCausalLM, LlamaConfig(**settings), f"{words}a Llama with biases, the same function")
    if family == "qwen2":
        return None  # its windows differ by layer, and further layers keep its own class
    layers = hf.config.num_hidden_layers
    settings |= {"use_sliding_window": True, "sliding_window": window, "layer_types": ["sliding_attention"] * layers}
    settings |= {"no_rope_layers": [1] * layers}
    return Target(SmolLM3ForCausalLM, SmolLM3Config(**settings), f"{words}a SmolLM3 with biases and the same window")


def _window(config: Any) -> int | None:
    """The attention window in tokens; None where every layer sees the entire context."""
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)
    full = types is not None and "sliding_attention" not in types
    return None if window is None or full or window >= config.max_position_embeddings else int(window)
