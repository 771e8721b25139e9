"""insert_layers(): further layers that add a constant to the residual stream, where an architecture has no bias in its MLP.

A layer whose attention has queries and keys of zero and one value of one (its bias) gives the same output at every token: the
weights of attention sum to 1, so the output projection's first column is what the layer adds. Its MLP has an output projection of
zeros. Where a block normalises what attention writes, that column is ones and the norm's weight is the step times
sqrt(1 + eps), since ones have a mean square of 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl.editing.bake.target import Target

#: Model types whose attention has biases (or gets them from `attention_bias`), and the norm of what attention writes, if any.
FAMILIES: dict[str, str] = {
    "qwen2": "",
    "qwen3": "",
    "gemma": "",
    "gemma2": "post_attention_layernorm",
    "gemma3_text": "post_attention_layernorm",
    "olmo": "",
    "olmo2": "post_attention_layernorm",
    "olmo3": "post_attention_layernorm",
}


def insert_layers(hf: Any, after: Sequence[int]) -> Target | None:
    """The model's own class with a further layer after each named one; None where its attention has no biases.

    Args:
        hf: The model.
        after: Layers, ascending.
    """
    config = hf.config
    if config.model_type not in FAMILIES:
        return None
    settings = config.to_dict()
    settings["num_hidden_layers"] = config.num_hidden_layers + len(after)
    if "attention_bias" in settings:
        settings["attention_bias"] = True
    if settings.get("layer_types") is not None:
        types: list[str] = []
        for layer, kind in enumerate(config.layer_types):
            types += [kind, "full_attention"] if layer in after else [kind]
        settings["layer_types"] = types
    note = f"{len(after)} further layers (one after each edited one) add the step, so that layer numbers differ from the model's"
    return Target(type(hf), type(config).from_dict(settings), note, tuple(after))


def renumbered(tensors: Mapping[str, Tensor], prefix: str, after: Sequence[int]) -> dict[str, Tensor]:
    """The tensors under the names of the longer model.

    Args:
        tensors: Tensors by name.
        prefix: Start of the names of all layers, with the dot.
        after: Layers after which one is inserted.
    """
    out = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            layer, _, rest = name.removeprefix(prefix).partition(".")
            name = f"{prefix}{int(layer) + sum(x < int(layer) for x in after)}.{rest}"
        out[name] = tensor
    return out


def layer_tensors(
    hf: Any, shapes: Mapping[str, Tensor], prefix: str, after: Sequence[int], steps: Mapping[int, Float[Tensor, " d"]]
) -> dict[str, Tensor]:
    """The weights of the inserted layers, in float64.

    Args:
        hf: The model.
        shapes: Tensors of the longer model by name, without storage.
        prefix: Start of the names of all layers, with the dot.
        after: Layers after which one is inserted.
        steps: Layer -> what its inserted layer adds.
    """
    norm = FAMILIES[hf.config.model_type]
    out: dict[str, Tensor] = {}
    for number, layer in enumerate(after):
        start = f"{prefix}{layer + number + 1}."
        for name, shape in shapes.items():
            if name.startswith(start):
                # norms of ones, or of zeros where the class adds one, read any input alike
                is_norm = "norm" in name and name.endswith("weight")
                out[name] = torch.ones(shape.shape).double() if is_norm else torch.zeros(shape.shape).double()
        out[f"{start}self_attn.v_proj.bias"][0] = 1.0
        column = steps[layer]
        if norm:
            # Gemma's norms multiply by 1 + weight
            offset = 1.0 if hf.config.model_type.startswith("gemma") else 0.0
            out[f"{start}{norm}.weight"] = steps[layer] * (1 + hf.config.rms_norm_eps) ** 0.5 - offset
            column = torch.ones_like(steps[layer])
        out[f"{start}self_attn.o_proj.weight"][:, 0] = column
    return out
