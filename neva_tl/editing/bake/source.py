"""read_checkpoint(): the plain transformers model and tokenizer of whatever the caller names as a model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neva_tl import models
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.core.files import first_line
from neva_tl.editing.bake.target import empty_model
from neva_tl.editing.base import Edit
from neva_tl.editing.eager import compiled_from
from neva_tl.models import hf_model, sources
from neva_tl.models.checkpoint import CheckedClass, trial_tokens
from neva_tl.models.installers import no_installer
from neva_tl.models.quiet import quiet

#: Parts of a module's name that TransformerLens adds.
_WRAPPERS = ("._original_component", ".original_component")
#: Largest difference of logits, relative to the largest one, between a TransformerLens model and its unwrapped weights.
_SAME = {torch.float32: 1e-4, torch.float64: 1e-4}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model to bake.

    Attributes:
        hf: The transformers model.
        tokenizer: Its tokenizer, or None.
        name: Its name without a user's path.
        dtype: Number format in which its weights are stored.
    """

    hf: Any
    tokenizer: Any
    name: str
    dtype: torch.dtype

    __repr__ = brief


def read_checkpoint(model: Any, edits: Sequence[Edit], recorded: str = "") -> Checkpoint:
    """The plain model of a name, a folder, a TransformerLens model or a transformers model.

    Args:
        model: What names the model. A name is loaded in the number format in which the neurons were selected, else in float32,
            which holds the weights of any checkpoint.
        edits: The edits.
        recorded: Number format that a saved edit recorded; empty for none.

    Raises:
        InputError: The model cannot be found or read, or is one that a plain checkpoint cannot hold.
    """
    model = compiled_from(model)
    if isinstance(model, str | os.PathLike):
        return _by_name(model, _dtype_of(edits, recorded))
    if models.is_model(model):
        return _unwrapped(model)
    if getattr(model, "peft_config", None):
        raise InputError(
            "the model has PEFT adapters, which a plain checkpoint lacks: merge them first (model.merge_and_unload())"
        )
    hf_model.check(model)
    hf_model.check_architecture(model)
    path = str(getattr(model.config, "_name_or_path", "") or "")
    tokenizer = sources.read_tokenizer(path, required=False) if Path(path).is_dir() else None
    return Checkpoint(model, tokenizer, hf_model.display_name(model), model.dtype)


def _dtype_of(edits: Sequence[Edit], recorded: str) -> torch.dtype:
    stored = [getattr(getattr(item, "neurons", None), "fingerprint", {}).get("dtype") for item in edits]
    name = next((str(x) for x in [*stored, recorded] if x), "float32")
    dtype = getattr(torch, name, None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def _by_name(name: str | os.PathLike[str], dtype: torch.dtype) -> Checkpoint:
    from transformers import AutoConfig, AutoModelForCausalLM

    source = sources.resolve(name)
    sources.refuse_experts(source)
    sources.refuse_quantised(source)
    where = str(source.path or source.hub)
    loader = CheckedClass(source.shown, None, local=source.path is not None, model_class=AutoModelForCausalLM)
    try:
        with quiet(), no_installer():
            stored = getattr(AutoConfig.from_pretrained(where, trust_remote_code=False), "dtype", None)
            hf = loader.from_pretrained(where, dtype=dtype)
            tokenizer = sources.read_tokenizer(where, required=source.path is not None)
    except InputError:
        raise
    except Exception as error:  # the libraries raise whatever a damaged config or tokenizer leads to
        raise InputError(
            f"cannot load {os.fspath(name)!r} as a language model ({first_line(error)}): check its config.json and tokenizer"
        ) from error
    return Checkpoint(hf.eval(), tokenizer, source.shown, stored if isinstance(stored, torch.dtype) else dtype)


def _unwrapped(model: models.Model) -> Checkpoint:
    """The plain model inside a `TransformerBridge`.

    Raises:
        InputError: A `HookedTransformer`, which has another layout, or weights that do not compute what the model computes.
    """
    name = models.info(model).name
    original: Any = getattr(model, "original_model", None)
    if original is None or getattr(original, "peft_config", None):
        raise InputError(
            f"a {type(model).__name__} cannot be written as a plain checkpoint: name the checkpoint it was loaded from instead "
            "(nv.bake('FOLDER', edit, out)), or give the transformers model"
        )
    hf: Any = empty_model(type(original), original.config)
    hf.load_state_dict(_plain_weights(original.state_dict(), set(hf.state_dict())), strict=True, assign=True)
    # buffers that are not stored (rotary frequencies) are made again by loading
    hf = _with_buffers(hf)
    hf.generation_config = original.generation_config
    tokens = trial_tokens(int(hf.get_input_embeddings().weight.shape[0]), hf.device)
    with torch.no_grad():
        theirs, ours = model(tokens), hf(input_ids=tokens, use_cache=False).logits
    difference = float((theirs[..., : ours.shape[-1]] - ours).abs().max()) / max(1.0, float(ours.abs().max()))
    if difference > _SAME.get(hf.dtype, 0.05):
        raise InputError(
            f"the weights of {name} compute other logits outside TransformerLens (by {difference:.2g} of the largest): name the "
            "checkpoint it was loaded from instead (nv.bake('FOLDER', edit, out))"
        )
    return Checkpoint(hf, models.tokenizer(model), name, hf.dtype)


def _plain_weights(tensors: Mapping[str, Tensor], names: set[str]) -> dict[str, Tensor]:
    """The tensors that a plain model has, under its own names."""
    out = {}
    for name, tensor in tensors.items():
        for wrapper in _WRAPPERS:
            name = name.replace(wrapper, "")
        if name in names:
            out[name] = tensor
    if missing := sorted(names - out.keys()):
        raise InputError(
            f"TransformerLens stores {missing[0]} in another layout: name the checkpoint the model was loaded from instead "
            "(nv.bake('FOLDER', edit, out))"
        )
    return out


def _with_buffers(hf: Any) -> Any:
    """The model with real buffers in place of those on the meta device; its weights keep their storage."""
    weights = hf.state_dict()
    device = next(iter(weights.values())).device
    with torch.device(device):
        full = type(hf)(hf.config)
    full = full.to(hf.dtype)
    full.load_state_dict(weights, strict=True, assign=True)
    full.tie_weights()
    return full.eval()
