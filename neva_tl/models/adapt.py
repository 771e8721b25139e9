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


def plain(hf_model: Any) -> PlainModel:
    """A plain transformers model with the facts, the fingerprint and the hook points of the TransformerLens model it would make.

    Worked out once per model, dtype and device: not seen are changes of its weights made later.

    Raises:
        InputError: no transformers language model, a mixture of experts, or an architecture that TransformerLens lacks.
    """
    if is_model(hf_model):
        raise InputError("this is a TransformerLens model: edit it with neva_tl.edit")
    transformers_model.check(hf_model)
    parameter = next(hf_model.parameters())
    key = ("plain", parameter.dtype, parameter.device)
    return PlainModel(hf_model, MEMO.get(hf_model, key, lambda: _plain_facts(hf_model)))


def _plain_facts(hf_model: Any) -> PlainFacts:
    transformers_model.check_architecture(hf_model)
    twin, names = transformers_model.twin(hf_model)
    MEMO.put(twin, "name", transformers_model.shown(hf_model))
    facts = info(twin)
    wanted = [f"blocks.{layer}.{site}" for layer in range(facts.n_layers) for site in SITES.values()]
    return PlainFacts(
        replace(facts, tl_class=type(hf_model).__name__),
        fingerprint(twin) | {"tokenizer_hash": ""},
        transformers_model.places(twin, names, wanted),
        activation(twin),
    )
