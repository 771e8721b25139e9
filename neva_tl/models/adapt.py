"""A plain transformers model with the facts and hook points of its TransformerLens twin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.models import hf_model as transformers_model
from neva_tl.models.activation_function import activation
from neva_tl.models.facts import MEMO, fingerprint, info, is_model
from neva_tl.models.hf_model import PlainFacts, PlainModel
from neva_tl.models.hooks import SITES
from neva_tl.models.identity import adapters


def plain(hf_model: Any) -> PlainModel:
    """Give a plain transformers model the facts, fingerprint and hook points of its TransformerLens twin.

    Cached per model, dtype and device; later in-place weight changes are not detected.

    Raises:
        InputError: Not a transformers language model, a mixture of experts, or an architecture that TransformerLens lacks.

    Example:
        >>> from transformers import AutoModelForCausalLM
        >>> hf_model = AutoModelForCausalLM.from_pretrained(nv.demo.path())
        >>> nv.models.info(nv.models.plain(hf_model)).d_mlp
        384
    """
    if is_model(hf_model):
        raise InputError("this is a TransformerLens model: edit it with neva_tl.edit")
    transformers_model.check(hf_model)
    parameter = next(hf_model.parameters())
    # PEFT adds adapters to a model in place
    state = adapters(hf_model) if hasattr(hf_model, "peft_config") else ""
    key = ("plain", parameter.dtype, parameter.device, state)
    return PlainModel(hf_model, MEMO.get(hf_model, key, lambda: _plain_facts(hf_model)))


def _plain_facts(hf_model: Any) -> PlainFacts:
    transformers_model.check_architecture(hf_model)
    twin, module_names = transformers_model.twin(hf_model)
    MEMO.put(twin, "name", transformers_model.display_name(hf_model))
    facts = info(twin)
    hook_names = [f"blocks.{layer}.{site}" for layer in range(facts.n_layers) for site in SITES.values()]
    return PlainFacts(
        replace(facts, tl_class=type(hf_model).__name__),
        fingerprint(twin) | {"tokenizer_hash": ""},
        transformers_model.hook_locations(twin, module_names, hook_names),
        activation(twin),
    )
