"""An edit accepted on another model than its own: neuron sets without their fingerprint, sizes checked."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing.base import Edit
from neva_tl.editing.edits.rewriting import RewriteAnswer


def accepted_on(edit: Edit, model: models.EditableModel) -> Edit:
    """Return the edit without the fingerprints that would refuse a model.

    Args:
        edit: The edit.
        model: The model.

    Raises:
        InputError: The edit does not fit the model's sizes.
    """
    rebound: Edit = _without_fingerprints(edit)
    if not isinstance(rebound, RewriteAnswer):  # it has no change of a forward pass to check
        changes = rebound.changes(model)
        gate = rebound.gate
        lacking = [] if gate is None else [change.layer for change in changes if change.layer not in gate.layers]
        width = models.info(model).d_mlp
        if gate is not None and (lacking or gate.weight.shape[1] != width):
            raise InputError(
                f"the edit's gate reads layers of {gate.weight.shape[1]} neurons, this model's have {width}"
                if gate.weight.shape[1] != width
                else f"the edit's gate has no probe at layer {lacking[0]}"
            )
    return rebound


def _without_fingerprints(thing: Any) -> Any:
    if isinstance(thing, NeuronSet):
        return replace(thing, fingerprint={})
    if isinstance(thing, tuple):
        return tuple(_without_fingerprints(item) for item in thing)
    if is_dataclass(thing) and not isinstance(thing, type):
        parts = {item.name: getattr(thing, item.name) for item in fields(thing)}
        rebound = {name: _without_fingerprints(part) for name, part in parts.items()}
        changed = {name: part for name, part in rebound.items() if part is not parts[name]}
        return replace(thing, **changed) if changed else thing
    return thing
